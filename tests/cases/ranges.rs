//! Reading: validators, conditions and ranges (RFC 9110 sections 13 and 14).

use tests::blobs::Client;
use tests::content::{self, Digest};
use tests::http::{Reply, Request};
use tests::node::Node;

/// One blob in a pack, one in a file of its own that fits a buffer, one that does not.
const SIZES: [usize; 3] = [1000, 200_000, 5_000_000];

fn stored(node: &Node) -> Vec<(Vec<u8>, Digest)> {
    let mut client = node.client();
    let bodies = SIZES.map(|size| content::bytes(21, size));
    bodies
        .map(|body| {
            let digest = client.put(&body);
            (body, digest)
        })
        .into()
}

fn get(client: &mut Client, digest: &Digest, headers: &[(&str, &str)]) -> Reply {
    let request = Request::new("GET", digest.path());
    let request = headers.iter().fold(request, |request, (n, v)| request.header(n, *v));
    client.call(&request)
}

#[test]
fn get_and_head_say_size_etag_and_that_ranges_are_served() {
    let node = Node::start();
    let mut client = node.client();
    for (body, digest) in stored(&node) {
        let got = get(&mut client, &digest, &[]).must_be(200);
        let head = client.call(&Request::new("HEAD", digest.path())).must_be(200);
        for reply in [&got, &head] {
            assert_eq!(reply.header("content-length"), Some(body.len().to_string().as_str()));
            assert_eq!(reply.header("etag"), Some(format!("\"{digest}\"").as_str()));
            assert_eq!(reply.header("accept-ranges"), Some("bytes"));
        }
        assert!(got.body == body);
    }
}

#[test]
fn what_is_not_there_is_404() {
    let node = Node::start();
    let mut client = node.client();
    let nothing = Digest::of_nothing_stored();
    get(&mut client, &nothing, &[]).must_be(404);
    get(&mut client, &nothing, &[("Range", "bytes=0-1")]).must_be(404);
    client.call(&Request::new("HEAD", nothing.path())).must_be(404);
    assert_eq!(client.delete(&nothing), 404);
    for target in ["/", "/blob", "/blobsx", "/files/x", "/metrics"] {
        client.call(&Request::new("GET", target)).must_be(404);
    }
}

#[test]
fn one_range_is_206_with_exactly_its_bytes() {
    let node = Node::start();
    let mut client = node.client();
    for (body, digest) in stored(&node) {
        let size = body.len();
        let (middle, last) = (size / 2, size - 1);
        for (range, from, to) in [
            ("0-0".to_owned(), 0, 0),
            (format!("{last}-{last}"), last, last),
            (format!("0-{last}"), 0, last),
            (format!("0-{}", size * 2), 0, last),
            (format!("{middle}-"), middle, last),
            ("0-".to_owned(), 0, last),
            ("-1".to_owned(), last, last),
            ("-17".to_owned(), size - 17, last),
            (format!("-{}", size * 2), 0, last),
            (format!("{}-{}", middle - 3, middle + 4), middle - 3, middle + 4),
            ("1-99999999999999999999".to_owned(), 1, last),
        ] {
            let range = format!("bytes={range}");
            let reply = get(&mut client, &digest, &[("Range", &range)]);
            assert_eq!(reply.status, 206, "{range} of {size}");
            let said = format!("bytes {from}-{to}/{size}");
            assert_eq!(reply.header("content-range"), Some(said.as_str()), "{range}");
            assert!(reply.body == body[from..=to], "{range} of {size}");
            assert_eq!(reply.header("etag"), Some(format!("\"{digest}\"").as_str()));
        }
    }
}

#[test]
fn ranges_around_every_block_border_are_exact() {
    let node = Node::start();
    let body = content::bytes(22, 1_200_000);
    let digest = node.client().put(&body);
    let mut client = node.client();
    for border in [512, 4096, 65_536, 131_072, 1 << 20] {
        for from in [border - 1, border, border + 1] {
            for length in [1, 2, 4096, 65_536] {
                let to = from + length - 1;
                let range = format!("bytes={from}-{to}");
                let reply = get(&mut client, &digest, &[("Range", &range)]).must_be(206);
                assert!(reply.body == body[from..=to], "{range}");
            }
        }
    }
}

#[test]
fn a_range_outside_is_416_and_says_the_size() {
    let node = Node::start();
    let mut client = node.client();
    let mut blobs = stored(&node);
    blobs.push((Vec::new(), client.put(&[])));
    for (body, digest) in blobs {
        let size = body.len();
        for range in
            [format!("bytes={size}-"), format!("bytes={}-{}", size + 5, size + 9), "bytes=-0".to_owned()]
        {
            let reply = get(&mut client, &digest, &[("Range", &range)]);
            assert_eq!(reply.status, 416, "{range} of {size}");
            let said = format!("bytes */{size}");
            assert_eq!(reply.header("content-range"), Some(said.as_str()), "{range}");
        }
    }
}

#[test]
fn a_range_that_makes_no_sense_is_read_over() {
    let node = Node::start();
    let mut client = node.client();
    let (body, digest) = stored(&node).swap_remove(0);
    for range in [
        "bytes=abc",
        "bytes=5-2",
        "items=0-5",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=1-2-3",
        "bytes=0x1-5",
        "bytes=+1-5",
    ] {
        let reply = get(&mut client, &digest, &[("Range", range)]);
        assert_eq!(reply.status, 200, "{range}");
        assert!(reply.body == body, "{range}");
    }
}

/// The parts of a multipart/byteranges body: their Content-Range and their bytes.
fn parts(reply: &Reply) -> Vec<(String, Vec<u8>)> {
    let kind = reply.header("content-type").expect("a content type");
    let boundary = kind.strip_prefix("multipart/byteranges").expect("multipart/byteranges");
    let boundary = boundary.split_once("boundary=").expect("a boundary").1.trim_matches('"');
    let delimiter = format!("--{boundary}").into_bytes();
    let mut rest = reply.body.as_slice();
    let mut parts = Vec::new();
    loop {
        rest = rest.strip_prefix(b"\r\n".as_slice()).unwrap_or(rest);
        rest = rest.strip_prefix(delimiter.as_slice()).expect("a delimiter");
        if rest.starts_with(b"--") {
            return parts;
        }
        rest = rest.strip_prefix(b"\r\n".as_slice()).expect("a line end");
        let end = rest.windows(4).position(|w| w == b"\r\n\r\n").expect("a part's head");
        let head = std::str::from_utf8(&rest[..end]).expect("a part's head is UTF-8");
        let range = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-range").then(|| value.trim().to_owned())
        });
        let range = range.expect("a part has a Content-Range");
        let bounds = range.strip_prefix("bytes ").and_then(|r| r.split_once('/'));
        let (from, to) = bounds.and_then(|(b, _)| b.split_once('-')).expect("a range");
        let size = to.parse::<usize>().expect("to") + 1 - from.parse::<usize>().expect("from");
        rest = &rest[end + 4..];
        parts.push((range, rest[..size].to_vec()));
        rest = &rest[size..];
    }
}

#[test]
fn several_ranges_come_as_multipart() {
    let node = Node::start();
    let mut client = node.client();
    for (body, digest) in stored(&node) {
        let size = body.len();
        let wanted = [(0, 9), (size / 2, size / 2 + 99), (size - 7, size - 1)];
        let ranges = format!("bytes=0-9, {}-{},-7", wanted[1].0, wanted[1].1);
        let reply = get(&mut client, &digest, &[("Range", &ranges)]).must_be(206);
        let expected =
            wanted.map(|(from, to)| (format!("bytes {from}-{to}/{size}"), body[from..=to].to_vec()));
        assert!(parts(&reply) == expected, "{ranges} of {size}");
    }
}

#[test]
fn a_flood_of_ranges_is_bounded() {
    let node = Node::start();
    let mut client = node.client();
    let (body, digest) = stored(&node).swap_remove(2);
    for count in [100, 500] {
        let overlapping = vec!["0-"; count].join(",");
        let request = Request::new("GET", digest.path());
        let request = request.header("Range", format!("bytes={overlapping}"));
        let reply = client.call(&request);
        assert!([200, 206, 400, 416].contains(&reply.status), "{}", reply.status);
        let limit = body.len() * 2;
        assert!(reply.body.len() <= limit, "{count} ranges gave {} bytes", reply.body.len());
    }
}

#[test]
fn conditions_are_answered() {
    let node = Node::start();
    let mut client = node.client();
    for (body, digest) in stored(&node) {
        let tag = format!("\"{digest}\"");
        let several = format!("\"other\", {tag}");
        let weak = format!("W/{tag}");
        for (name, value, status) in [
            ("If-None-Match", tag.as_str(), 304),
            ("If-None-Match", "*", 304),
            ("If-None-Match", &several, 304),
            ("If-None-Match", &weak, 304),
            ("If-None-Match", "\"other\"", 200),
            ("If-Match", &tag, 200),
            ("If-Match", "*", 200),
            ("If-Match", "\"other\"", 412),
        ] {
            let reply = get(&mut client, &digest, &[(name, value)]);
            assert_eq!(reply.status, status, "{name}: {value}");
            if status == 304 {
                assert_eq!(reply.header("etag"), Some(tag.as_str()));
            }
        }
        for (value, status) in [(tag.as_str(), 206), ("\"other\"", 200), (&weak, 200)] {
            let headers = [("Range", "bytes=1-5"), ("If-Range", value)];
            let reply = get(&mut client, &digest, &headers);
            assert_eq!(reply.status, status, "If-Range: {value}");
            assert_eq!(reply.body.len(), if status == 206 { 5 } else { body.len() });
        }
        let both = [("Range", "bytes=1-5"), ("If-None-Match", &tag)];
        get(&mut client, &digest, &both).must_be(304);
    }
}
