//! A page of blobs in digest order: every column gives its next names, the smallest of all are the page.

use super::BlobService;
use crate::api::{Reply, Request};
use net::Exchange;
use net::http1::Status;
use runtime::io::Io;
use runtime::tier::Digest;
use std::fmt::Write;
use std::io;

impl<I: Io> BlobService<I> {
    pub(super) async fn list(
        &self,
        after: Option<Digest>,
        limit: usize,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        let mut page = Vec::new();
        for column in 0..self.columns.count() {
            match self.columns.ask_column(column, Request::List(after, limit)).await {
                Ok(Reply::Page(Some(names))) => page.extend(names),
                Ok(Reply::Page(None)) => {
                    let why = "there may be more blobs, where they cannot be read";
                    return exchange.refuse(Status::ServiceUnavailable, why).await;
                }
                Ok(_) => unreachable!("a list has its own reply"),
                Err(busy) => return exchange.refuse(Status::ServiceUnavailable, &busy.to_string()).await,
            }
        }
        page.sort_unstable();
        // A full page may be the last one; the next is then empty.
        let next = page.get(limit - 1).map(|(digest, _)| *digest);
        page.truncate(limit);
        exchange.answer(Status::Ok, "application/json", render(&page, next).as_bytes()).await
    }
}

/// A page as JSON; public for the bench program that counts its instructions.
pub fn render(page: &[(Digest, u64)], next: Option<Digest>) -> String {
    let mut text = String::with_capacity(page.len() * 100 + 32);
    text.push_str("{\"blobs\":[");
    for (i, (digest, size)) in page.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(text, "{comma}{{\"digest\":\"{digest}\",\"size\":{size}}}").expect("writing to a String");
    }
    match next {
        Some(digest) => writeln!(text, "],\"next\":\"{digest}\"}}"),
        None => writeln!(text, "],\"next\":null}}"),
    }
    .expect("writing to a String");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_json() {
        assert_eq!(render(&[], None), "{\"blobs\":[],\"next\":null}\n");
        let d = Digest([0; 32]);
        let text = render(&[(d, 3), (d, 4)], Some(d));
        assert!(
            text.starts_with("{\"blobs\":[{\"digest\":\"sha256:00") && text.contains(",\"size\":3},{"),
            "{text}"
        );
    }
}
