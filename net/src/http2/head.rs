//! Requests and answers between HTTP/2's fields and the bytes of an HTTP/1.1 head, so that both versions are parsed, routed and
//! answered by the same code with the same bounds. Pure. Called by `http2`.

use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};

/// Where the status stands in `HTTP/1.1 200 OK`.
const STATUS_AT: std::ops::Range<usize> = 9..12;

/// A request's head as HTTP/1.1 has it. Without Content-Length: frames say where a body ends; without Expect: hyper sends no
/// interim answer, and the client goes on by itself (RFC 9110 §10.1.1).
pub(super) fn request_head(parts: &Parts) -> Vec<u8> {
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let authority = parts.uri.authority().map(|authority| authority.as_str());
    let mut out = Vec::with_capacity(512);
    let mut line = |parts: &[&[u8]]| {
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(b"\r\n");
    };
    line(&[parts.method.as_str().as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1"]);
    // RFC 9113 §8.3.1: `:authority` counts, not a Host beside it; §8.2.3 for the rest.
    if let Some(authority) = authority {
        line(&[b"host: ", authority.as_bytes()]);
    }
    for (name, value) in &parts.headers {
        let is_left_out =
            [CONTENT_LENGTH, COOKIE, EXPECT].contains(name) || (*name == HOST && authority.is_some());
        if !is_left_out {
            line(&[name.as_str().as_bytes(), b": ", value.as_bytes()]);
        }
    }
    // RFC 9113 §8.2.3: a cookie's crumbs are one field before they pass into HTTP/1.1.
    let crumbs: Vec<&[u8]> = parts.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if !crumbs.is_empty() {
        line(&[b"cookie: ", &crumbs.join(&b"; "[..])]);
    }
    if authority.is_none() && !parts.headers.contains_key(HOST) {
        // HTTP/1.1 wants the field, if only empty.
        line(&[b"host:"]);
    }
    line(&[]);
    out
}

/// An answer's head that `ResponseHead` wrote, and the length of the body that it promises.
pub(super) fn response(head: &[u8]) -> (Response<()>, Option<u64>) {
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status = lines.next().and_then(|line| StatusCode::from_bytes(line.get(STATUS_AT)?).ok());
    let mut response = Response::new(());
    *response.status_mut() = status.expect("ours is three digits");
    let mut length = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|&byte| byte == b':').expect("ours are `name: value`");
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // RFC 9113 §8.2.2: it is HTTP/1.1's own.
        if name.eq_ignore_ascii_case(b"connection") {
            continue;
        }
        let name = HeaderName::from_bytes(name).expect("ours are tokens");
        let value = HeaderValue::from_bytes(value).expect("ours have no controls");
        if name == CONTENT_LENGTH {
            length = value.to_str().ok().and_then(|text| text.parse().ok());
        }
        response.headers_mut().append(name, value);
    }
    (response, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{HttpDate, Parsed, ResponseHead, Status, parse_head};
    use http::Request;

    #[test]
    fn a_request_is_read_as_one_of_http_1() {
        let request = Request::builder()
            .method("PUT")
            .uri("https://h:1/blobs?ttl=1s")
            .header("host", "other")
            .header("content-length", "5")
            .header("expect", "100-continue")
            .header("if-match", "\"a\"")
            .header("if-match", "\"b\"")
            .header("cookie", "a=1")
            .header("cookie", "b=2; c=3")
            .body(())
            .expect("valid");
        let text = request_head(&request.into_parts().0);
        let Ok(Parsed::Complete(head)) = parse_head(&text) else { panic!("{}", text.escape_ascii()) };
        assert_eq!((head.path, head.query, head.authority), ("/blobs", Some("ttl=1s"), "h:1"));
        assert_eq!(head.headers().filter(|(name, _)| *name == b"if-match").count(), 2);
        let cookies: Vec<_> = head.headers().filter(|(name, _)| *name == b"cookie").collect();
        assert_eq!(cookies, [(&b"cookie"[..], &b"a=1; b=2; c=3"[..])]);
        assert!(!head.expect_continue && head.len_bytes == text.len());
        let bare = Request::builder().uri("/x").body(()).expect("valid");
        let text = request_head(&bare.into_parts().0);
        assert!(matches!(parse_head(&text), Ok(Parsed::Complete(head)) if head.path == "/x"));
    }

    #[test]
    fn an_answer_keeps_all_but_what_is_http_1s_own() {
        let mut out = Vec::new();
        ResponseHead::new(&mut out, Status::PartialContent)
            .date(&HttpDate::at(0))
            .header("ETag", b"\"a\"")
            .content_length(3)
            .connection_close()
            .finish();
        let (response, length) = response(&out);
        assert_eq!((response.status().as_u16(), length), (206, Some(3)));
        let names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["date", "etag", "content-length"]);
        for &status in Status::ALL {
            let mut out = Vec::new();
            ResponseHead::new(&mut out, status).finish();
            assert_eq!(super::response(&out).0.status().as_u16(), status.code());
        }
    }
}
