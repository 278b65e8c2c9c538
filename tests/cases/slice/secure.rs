//! The slice listener speaks TLS and HTTP/2 and knows tokens as the others do.

use super::{MIB, object, proxy};
use std::fs;
use std::time::Duration;
use tests::command::{self, Finished};
use tests::node::Setup;
use tests::origin::Origin;
use tests::pki::Authority;

fn curl(setup: &Setup, args: &[&str]) -> Finished {
    command::run(setup.curl().args(args), Duration::from_secs(60))
}

#[test]
fn slices_are_served_over_tls_by_both_versions_and_purged_with_a_token() {
    let origin = Origin::start();
    let setup = proxy(&origin);
    let dir = setup.path("pki");
    fs::create_dir_all(&dir).expect("made");
    let authority = Authority::new(&dir, "ca");
    let server = authority.sign("server", &["localhost", "127.0.0.1"]);
    let tokens = setup.path("tokens");
    fs::write(&tokens, "blob a\nslice secret\nops b\n").expect("written");
    let setup = setup.tls(&server, &authority.file);
    // Health is for everybody; what the harness asks for at a start needs no token.
    let node = setup.arg("--token-file").arg(tokens.to_str().expect("UTF-8")).start();
    let (object, url) = (object(1, 3 * MIB + 5), format!("https://{}/a", node.setup.slice));
    origin.put("/a", object.clone());
    for version in ["--http1.1", "--http2"] {
        let whole = curl(&node.setup, &[version, &url]).must_succeed();
        assert!(whole.stdout == *object.body, "{version}");
        let part = curl(&node.setup, &[version, "-r", "1000000-2500000", &url]).must_succeed();
        assert!(part.stdout == object.body[1_000_000..=2_500_000], "{version}");
        let parts = curl(&node.setup, &[version, "-r", "0-1,3000000-3000001", &url]).must_succeed();
        assert!(parts.stdout.windows(2).any(|two| *two == object.body[3_000_000..3_000_002]), "{version}");
        let head = curl(&node.setup, &[version, "-I", &url]).must_succeed().text().to_ascii_lowercase();
        assert!(head.contains("content-length: 3145733") && head.contains("x-cache: hit"), "{head}");
        let status = |more: &[&str]| {
            let args = [&[version, "-o", "/dev/null", "-w", "%{http_code}", "-X", "PURGE"], more, &[&url]];
            curl(&node.setup, &args.concat()).must_succeed().text()
        };
        assert_eq!(status(&[]), "401", "{version}");
        assert_eq!(status(&["-H", "Authorization: Bearer b"]), "401", "{version}");
        assert_eq!(status(&["-H", "Authorization: Bearer secret"]), "200", "{version}");
    }
    assert_eq!(origin.asked("/a").values().max(), Some(&2), "once before each purge but the last");
    // Who speaks no TLS is told so.
    let plain = curl(&node.setup, &["--http1.1", &url.replace("https", "http")]).must_succeed();
    assert!(plain.text().contains("this port speaks TLS"), "{}", plain.text());
}

#[test]
fn a_listener_that_others_reach_needs_tls() {
    let origin = Origin::start();
    let setup = Setup::new().arg("--slice-origin").arg(origin.url(""));
    let refused = setup.arg("--slice-listen").arg("0.0.0.0:18080").run_refused();
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("slice-listen") && refused.stderr.contains("--insecure"),
        "{}",
        refused.stderr
    );
}
