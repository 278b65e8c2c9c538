//! `POST /blobs/fetch`: reads what is wanted, waits for it with everybody else who wants it, answers as a PUT.

use super::route::Lifetime;
use super::{BlobService, refuse_put};
use crate::api::{FetchError, FetchKey, Fetched, Reply, Request, Whence};
use crate::fetch::Wanted;
use net::Exchange;
use net::client::Url;
use net::http1::Status;
use runtime::io::Io;
use runtime::tier::{Digest, Keep};
use serde::Deserialize;
use std::io;

/// A body says no more than a URL and a digest.
const BODY_BYTES_MAX: usize = 16 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    url: String,
    digest: Option<String>,
}

impl<I: Io> BlobService<I> {
    pub(super) async fn fetch(&self, lifetime: Lifetime, exchange: &mut Exchange<'_, I>) -> io::Result<()> {
        let Some(buf) = exchange.io().buffer_fitting(BODY_BYTES_MAX + 1) else {
            return refuse_fetch(exchange, &FetchError::Busy).await;
        };
        let (read, buf) = exchange.read_body(buf, 0, BODY_BYTES_MAX + 1).await;
        let count = match read {
            Ok(count) if count <= BODY_BYTES_MAX => count,
            Ok(_) => {
                exchange.close_after();
                return exchange.refuse(Status::ContentTooLarge, "the body is longer than 16 KiB").await;
            }
            Err(e) => {
                exchange.close_after();
                return exchange.refuse(Status::BadRequest, &format!("the body is cut short: {e}")).await;
            }
        };
        let (key, url) = match understand(&buf[..count]) {
            Ok(asked) => asked,
            Err(why) => return exchange.refuse(Status::BadRequest, &why).await,
        };
        drop(buf);
        let fetches = &self.columns.local().fetches;
        let keep = self.keep(lifetime, true);
        let wanted = fetches.want(key, Whence::Url(url), keep).await;
        // Whoever began the fetch may have asked for less; the time that none asked for begins with the fetch.
        let is_asked_for = matches!(wanted, Wanted::Stored(_)) || lifetime != Lifetime::default();
        let outcome = match wanted {
            Wanted::Stored(fetched) => Ok(fetched),
            Wanted::Coming(ticket) => exchange.wait_for(ticket.outcome()).await?,
            Wanted::Busy => Err(FetchError::Busy),
            Wanted::Unknown => unreachable!("it was said where it comes from"),
        };
        match outcome {
            Ok(fetched) if is_asked_for => self.keep_fetched(fetched, keep, exchange).await,
            Ok(fetched) => answer_fetched(exchange, fetched).await,
            Err(e) => refuse_fetch(exchange, &e).await,
        }
    }

    async fn keep_fetched(
        &self,
        fetched: Fetched,
        keep: Keep,
        exchange: &mut Exchange<'_, I>,
    ) -> io::Result<()> {
        match self.columns.ask(&fetched.digest, Request::Keep(fetched.digest, keep)).await {
            Ok(Reply::Kept(Ok(()))) => answer_fetched(exchange, fetched).await,
            Ok(Reply::Kept(Err(e))) => refuse_put(exchange, &e).await,
            Ok(_) => unreachable!("keeping has its own reply"),
            Err(_busy) => refuse_fetch(exchange, &FetchError::Busy).await,
        }
    }
}

fn understand(body: &[u8]) -> Result<(FetchKey, String), String> {
    let asked: Asked = serde_json::from_slice(body)
        .map_err(|e| format!("the body is not {{\"url\":…,\"digest\":…}}: {e}"))?;
    let url = Url::parse(&asked.url).map_err(|e| e.to_string())?.to_string();
    match asked.digest {
        None => Ok((FetchKey::Url(url.clone()), url)),
        Some(text) => {
            let digest: Digest = text
                .parse()
                .map_err(|_| "a digest is sha256: followed by 64 lower-case hex digits".to_owned())?;
            Ok((FetchKey::Digest(digest), url))
        }
    }
}

async fn answer_fetched<I: Io>(exchange: &mut Exchange<'_, I>, fetched: Fetched) -> io::Result<()> {
    let Fetched { digest, size } = fetched;
    super::put::answer_created(exchange, &digest, size).await
}

/// Says why a fetch brought nothing.
pub(super) async fn refuse_fetch<I: Io>(exchange: &mut Exchange<'_, I>, e: &FetchError) -> io::Result<()> {
    let status = match e {
        FetchError::Origin(404 | 410) => Status::NotFound,
        FetchError::Origin(_) | FetchError::Unusable(_) | FetchError::Changed => Status::BadGateway,
        FetchError::Timeout(_) => Status::GatewayTimeout,
        FetchError::Mismatch(_) => Status::UnprocessableContent,
        FetchError::NoSpace => Status::InsufficientStorage,
        FetchError::Busy => Status::ServiceUnavailable,
        FetchError::Store(_) => Status::InternalServerError,
    };
    exchange.refuse(status, &e.to_string()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_body_says_is_refused_or_means_one_thing() {
        let hex = "5a".repeat(32);
        let golden = [
            r#"{"url":"http://h/"}"#.to_owned(),
            format!(r#"{{"url":"HTTPS://Host.example:8443/a%20b?c=d","digest":"sha256:{hex}"}}"#),
            format!(r#" {{ "digest" : "sha256:{hex}" , "url" : "http://127.0.0.1:9/\u0061" }} "#),
        ];
        let golden = golden.map(String::into_bytes);
        mutation::fuzz(
            "POST /blobs/fetch",
            &golden,
            |_| {},
            |body| {
                let Ok((key, url)) = understand(body) else { return false };
                // What is remembered is a URL again, and the same one.
                assert_eq!(Url::parse(&url).map(|again| again.to_string()).ok(), Some(url.clone()));
                let said = match &key {
                    FetchKey::Url(named) => {
                        assert_eq!(*named, url);
                        serde_json::json!({ "url": url })
                    }
                    FetchKey::Digest(digest) => {
                        serde_json::json!({ "url": url, "digest": digest.to_string() })
                    }
                };
                assert_eq!(understand(said.to_string().as_bytes()), Ok((key, url)));
                true
            },
        );
    }

    #[test]
    fn a_body_is_a_url_and_perhaps_a_digest() {
        let hex = "0".repeat(64);
        let understood = |text: &str| understand(text.as_bytes());
        assert_eq!(
            understood(r#"{"url":"HTTP://H:80/a"}"#),
            Ok((FetchKey::Url("http://h/a".into()), "http://h/a".into()))
        );
        let named = understood(&format!(r#"{{"url":"http://h/","digest":"sha256:{hex}"}}"#));
        assert_eq!(named, Ok((FetchKey::Digest(Digest([0; 32])), "http://h/".into())));
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"url":1}"#,
            r#"{"url":"ftp://h/"}"#,
            r#"{"url":"http://u@h/"}"#,
            r#"{"url":"http://h/#f"}"#,
            r#"{"url":"http://h/","digest":"md5:0"}"#,
            r#"{"url":"http://h/","other":1}"#,
            r#"{"url":"http://h/"} x"#,
        ] {
            assert!(understood(bad).is_err(), "{bad}");
        }
    }
}
