//! RFC 9111 and 5861 as tables, a line a rule with its section.

use super::*;
use proptest::prelude::*;

/// Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
const NOW_S: u64 = 784_111_777;
const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT";

fn lifetimes() -> Lifetimes {
    Lifetimes { cache_ttl_s: Some(3600), negative_s: vec![(404, 60), (503, 1)] }
}

fn guessing() -> Lifetimes {
    Lifetimes { cache_ttl_s: None, negative_s: Vec::new() }
}

/// `A: b | C: d`
fn pairs(text: &str) -> Vec<(&str, &str)> {
    let lines = text.split(" | ").filter(|line| !line.is_empty());
    lines.map(|line| line.split_once(": ").expect("a field")).collect()
}

fn with<T>(
    method: Method,
    request: &str,
    status: u16,
    response: &str,
    then: impl FnOnce(&Exchanged<'_>) -> T,
) -> T {
    let (request, response) = (pairs(request), pairs(response));
    let (request, response) = (Fields::of_pairs(&request), Fields::of_pairs(&response));
    let times = (NOW_S - 2, NOW_S);
    then(&Exchanged {
        method,
        request: &request,
        status,
        response: &response,
        request_s: times.0,
        response_s: times.1,
    })
}

fn stored(request: &str, status: u16, response: &str) -> Option<NotStored> {
    with(Method::Get, request, status, response, |e| why_not_stored(e, &lifetimes()))
}

#[test]
fn storing_a_response_section_3() {
    use NotStored::{Authorization, NoLifetime, NoStore, Private, SetCookie, Status, Vary};
    let table: [(&str, &str, u16, &str, Option<NotStored>); 36] = [
        ("§3 max-age", "", 200, "Cache-Control: max-age=5", None),
        ("§3 s-maxage", "", 200, "Cache-Control: s-maxage=5", None),
        ("§3 Expires", "", 200, "Expires: Sun, 06 Nov 1994 09:49:37 GMT", None),
        ("§3 public", "", 200, "Cache-Control: public", None),
        ("§3 heuristically cacheable", "", 200, "", None),
        ("§3 the same, of a part", "", 206, "", None),
        ("§3 not heuristically cacheable", "", 302, "", Some(NoLifetime)),
        ("§3 the same, with a lifetime", "", 302, "Cache-Control: max-age=5", None),
        ("§3 no final status", "", 103, "Cache-Control: max-age=5", Some(Status)),
        ("§3 a status nobody knows", "", 299, "Cache-Control: max-age=5", Some(Status)),
        ("§4.3.4 a 304 is no answer to keep", "", 304, "Cache-Control: max-age=5", Some(Status)),
        ("provoked by a client", "", 400, "Cache-Control: max-age=5", Some(Status)),
        ("provoked by a client", "", 405, "Cache-Control: max-age=5", Some(Status)),
        ("provoked by a client", "", 431, "Cache-Control: max-age=5", Some(Status)),
        ("provoked by a client", "", 416, "Cache-Control: max-age=5", Some(Status)),
        ("negative, by status", "", 404, "", None),
        ("negative, by status", "", 503, "", None),
        ("negative, not configured", "", 410, "", Some(NoLifetime)),
        ("negative, the origin's word", "", 410, "Cache-Control: max-age=5", None),
        ("§5.2.1.5", "Cache-Control: no-store", 200, "Cache-Control: max-age=5", Some(NoStore)),
        ("§5.2.2.5", "", 200, "Cache-Control: no-store, max-age=5", Some(NoStore)),
        ("§5.2.2.3 understood", "", 200, "Cache-Control: no-store, must-understand, max-age=5", None),
        ("§5.2.2.3 not understood", "", 299, "Cache-Control: must-understand, max-age=5", Some(Status)),
        ("§5.2.2.7", "", 200, "Cache-Control: private, max-age=5", Some(Private)),
        ("§5.2.2.7 with names", "", 200, "Cache-Control: private=\"x\", max-age=5", Some(Private)),
        ("§5.2.2.4 is stored", "", 200, "Cache-Control: no-cache", None),
        ("§3.5", "Authorization: x", 200, "Cache-Control: max-age=5", Some(Authorization)),
        ("§3.5 public", "Authorization: x", 200, "Cache-Control: public, max-age=5", None),
        ("§3.5 s-maxage", "Authorization: x", 200, "Cache-Control: s-maxage=5", None),
        ("§3.5 must-revalidate", "Authorization: x", 200, "Cache-Control: must-revalidate, max-age=5", None),
        ("§3.5 proxy-revalidate", "Authorization: x", 200, "Cache-Control: proxy-revalidate", None),
        ("§7.3 a cookie", "", 200, "Set-Cookie: a=b | Cache-Control: public", Some(SetCookie)),
        ("§4.1 *", "", 200, "Vary: a, * | Cache-Control: max-age=5", Some(Vary)),
        ("§4.1", "", 200, "Vary: a, b | Cache-Control: max-age=5", None),
        ("§4.2.1 malformed", "", 200, "Cache-Control: max-age=\"5", Some(NoStore)),
        ("§5.2.3 unknown", "", 200, "Cache-Control: max-age=5, x-y=z", None),
    ];
    for (rule, request, status, response, expected) in table {
        assert_eq!(stored(request, status, response), expected, "{rule}: {request} / {status} {response}");
    }
    for method in [Method::Head, Method::Post, Method::Put, Method::Delete, Method::Options, Method::Other] {
        let why = with(method, "", 200, "Cache-Control: max-age=5", |e| why_not_stored(e, &lifetimes()));
        assert_eq!(why, Some(NotStored::Method), "{method:?}");
    }
}

fn freshness(response: &str, lifetimes: &Lifetimes) -> Freshness {
    with(Method::Get, "", 200, response, |e| Freshness::of_response(e, lifetimes))
}

#[test]
fn lifetimes_section_4_2() {
    let table: [(&str, &str, u64); 17] = [
        ("§4.2.1 s-maxage first", "Cache-Control: max-age=5, s-maxage=7", 7),
        (
            "§4.2.1 max-age before Expires",
            "Cache-Control: max-age=5 | Expires: Sun, 06 Nov 1994 09:49:37 GMT",
            5,
        ),
        (
            "§4.2.1 Expires minus Date",
            "Expires: Sun, 06 Nov 1994 09:49:37 GMT | Date: Sun, 06 Nov 1994 08:39:37 GMT",
            4200,
        ),
        ("§4.2.1 Expires without Date", "Expires: Sun, 06 Nov 1994 09:49:37 GMT", 3600),
        ("§5.3 in the past", "Expires: Sun, 06 Nov 1994 07:49:37 GMT", 0),
        ("§5.3 \"0\"", "Expires: 0", 0),
        (
            "§5.3 twice: no date",
            "Expires: Sun, 06 Nov 1994 09:49:37 GMT | Expires: Sun, 06 Nov 1994 09:49:37 GMT",
            0,
        ),
        ("§4.2.1 invalid", "Cache-Control: max-age=x", 0),
        ("§4.2.1 twice: the smaller", "Cache-Control: max-age=9 | Cache-Control: max-age=3", 3),
        ("§1.2.2 too great", "Cache-Control: max-age=999999999999", 1 << 31),
        ("cache_ttl", "", 3600),
        ("cache_ttl, no guess", "Last-Modified: Sun, 06 Nov 1994 06:49:37 GMT", 3600),
        ("cache_ttl is no more than the origin's word", "Cache-Control: max-age=0", 0),
        ("cache_ttl beside public", "Cache-Control: public", 3600),
        ("cache_ttl beside no-cache", "Cache-Control: no-cache", 3600),
        ("cache_ttl beside a Date", DATE, 3600),
        ("cache_ttl beside what RFC 5861 adds", "Cache-Control: stale-if-error=9", 3600),
    ];
    for (rule, response, expected) in table {
        assert_eq!(freshness(response, &lifetimes()).lifetime_s, expected, "{rule}: {response}");
    }
    let guesses = [
        ("§4.2.2 a tenth", "Last-Modified: Sun, 06 Nov 1994 06:49:37 GMT", 720),
        ("§4.2.2 at most a day", "Last-Modified: Sun, 06 Nov 1974 06:49:37 GMT", 86_400),
        ("§4.2.2 from the future", "Last-Modified: Sun, 06 Nov 2024 06:49:37 GMT", 0),
        ("§4.2.2 nothing to guess from", "", 0),
    ];
    for (rule, response, expected) in guesses {
        assert_eq!(freshness(response, &guessing()).lifetime_s, expected, "{rule}: {response}");
    }
}

#[test]
fn age_section_4_2_3() {
    // The request took two seconds.
    let table = [
        ("no Date, no Age: the delay", "", 2),
        ("age_value + response_delay", "Age: 10", 12),
        ("apparent_age", "Date: Sun, 06 Nov 1994 08:39:37 GMT", 600),
        ("the greater of both", "Date: Sun, 06 Nov 1994 08:39:37 GMT | Age: 700", 702),
        ("a Date from the future", "Date: Sun, 06 Nov 1994 09:39:37 GMT", 2),
        ("§5.1 several: the first", "Age: 5 | Age: 50", 7),
        ("§5.1 a list: its first", "Age: 5, 50", 7),
        ("§5.1 no number", "Age: -5", 2),
        ("§1.2.2 too great", "Age: 99999999999999", 1 << 31),
    ];
    for (rule, response, expected) in table {
        let freshness = freshness(response, &lifetimes());
        assert_eq!(freshness.age_s(NOW_S), expected, "{rule}: {response}");
        let later_s = freshness.age_s(NOW_S + 30);
        assert_eq!(later_s, (expected + 30).min(DELTA_SECONDS_MAX), "{rule}, 30 s later");
    }
    let fresh = freshness("Cache-Control: max-age=10", &lifetimes());
    assert_eq!((fresh.ttl_s(NOW_S), fresh.ttl_s(NOW_S + 20)), (8, -12));
    assert!(fresh.expired().ttl_s(NOW_S) < 0);
}

#[test]
fn what_a_stored_answer_is_good_for_section_4() {
    use Use::{Fresh, OnlyIfCached, Stale, StaleWhileRevalidate};
    let ask = Use::Revalidate { if_error: false };
    let ask_if_error = Use::Revalidate { if_error: true };
    // Age is 2 when the answer comes; the last column is the age that it is asked at.
    let table: [(&str, &str, &str, u64, Use); 39] = [
        ("§4.2 fresh", "max-age=10", "", 9, Fresh),
        ("§4.2 lifetime > age", "max-age=10", "", 10, ask),
        ("§5.2.2.4", "max-age=10, no-cache", "", 2, ask),
        ("§5.2.2.4 is never stale", "max-age=10, no-cache, stale-if-error=99", "", 2, ask),
        ("§5.2.1.4", "max-age=10", "no-cache", 2, ask),
        ("§5.2.1.4 with the RFC 5861 way out", "max-age=10, stale-if-error=5", "no-cache", 2, ask_if_error),
        ("§5.2.1.1", "max-age=10", "max-age=5", 5, Fresh),
        ("§5.2.1.1 too old", "max-age=10", "max-age=5", 6, ask),
        ("§5.2.1.1 max-age=0", "max-age=10", "max-age=0", 2, ask),
        ("§5.2.1.1 with max-stale", "max-age=10", "max-age=5, max-stale=3", 8, Fresh),
        ("§5.2.1.3", "max-age=10", "min-fresh=5", 4, Fresh),
        ("§5.2.1.3 not that long", "max-age=10", "min-fresh=5", 5, ask),
        ("§5.2.1.2", "max-age=10", "max-stale=5", 15, Stale),
        ("§5.2.1.2 staler", "max-age=10", "max-stale=5", 16, ask),
        ("§5.2.1.2 any", "max-age=10", "max-stale", 9999, Stale),
        ("§5.2.1.2 fresh all the same", "max-age=10", "max-stale", 5, Fresh),
        ("§5.2.2.2 forbids it", "max-age=10, must-revalidate", "max-stale", 15, ask),
        ("§5.2.2.2 until stale", "max-age=10, must-revalidate", "", 9, Fresh),
        ("§5.2.2.8 forbids it", "max-age=10, proxy-revalidate", "max-stale", 15, ask),
        ("§5.2.2.10 forbids it", "s-maxage=10", "max-stale", 15, ask),
        (
            "§5.2.2.10 unless the origin allows it",
            "s-maxage=10, stale-while-revalidate=9",
            "",
            15,
            StaleWhileRevalidate,
        ),
        (
            "§4.2.4 stale-while-revalidate forbidden",
            "max-age=10, must-revalidate, stale-while-revalidate=9",
            "",
            15,
            ask,
        ),
        ("5861 §3", "max-age=10, stale-while-revalidate=5", "", 14, StaleWhileRevalidate),
        ("5861 §3 over", "max-age=10, stale-while-revalidate=5", "", 15, ask),
        ("5861 §3 fresh", "max-age=10, stale-while-revalidate=5", "", 9, Fresh),
        ("5861 §3 the client asks", "max-age=10, stale-while-revalidate=5", "no-cache", 14, ask),
        ("5861 §4", "max-age=10, stale-if-error=5", "", 14, ask_if_error),
        ("5861 §4 over", "max-age=10, stale-if-error=5", "", 15, ask),
        ("5861 §4 of the request", "max-age=10", "stale-if-error=5", 14, ask_if_error),
        ("5861 §4 forbidden", "max-age=10, must-revalidate, stale-if-error=5", "", 14, ask),
        ("5861 both", "max-age=10, stale-while-revalidate=2, stale-if-error=5", "", 13, ask_if_error),
        ("§5.2.1.7 fresh", "max-age=10", "only-if-cached", 9, Fresh),
        ("§5.2.1.7 stale", "max-age=10", "only-if-cached", 10, OnlyIfCached),
        ("§5.2.1.7 stale, allowed", "max-age=10", "only-if-cached, max-stale", 10, Stale),
        ("§5.2.1.7 and 5861 §3", "max-age=10, stale-while-revalidate=5", "only-if-cached", 12, Stale),
        ("§5.2.1.7 contradicts itself", "max-age=10", "only-if-cached, no-cache", 5, OnlyIfCached),
        ("max-age=0 is asked for each time", "max-age=0", "", 2, ask),
        ("cache_ttl", "public", "", 3599, Fresh),
        ("cache_ttl over", "public", "", 3600, ask),
    ];
    for (rule, response, request, age_s, expected) in table {
        let freshness = freshness(&format!("Cache-Control: {response}"), &lifetimes());
        let request = [("Cache-Control", request)];
        let control = match request[0].1 {
            "" => CacheControl::default(),
            _ => CacheControl::of_request(&Fields::of_pairs(&request)),
        };
        let now_s = NOW_S + age_s - 2;
        assert_eq!(freshness.age_s(now_s), age_s);
        assert_eq!(freshness.good_for(&control, now_s), expected, "{rule}: {response} / {request:?}");
    }
}

#[test]
fn invalidation_section_4_4() {
    for method in [Method::Put, Method::Post, Method::Delete, Method::Other] {
        assert!(invalidates(method, 200) && invalidates(method, 204) && invalidates(method, 303));
        assert!(!invalidates(method, 404) && !invalidates(method, 500) && !invalidates(method, 100));
    }
    for method in [Method::Get, Method::Head, Method::Options] {
        assert!(!invalidates(method, 200));
    }
}

fn any_control() -> impl Strategy<Value = String> {
    let directive = prop::sample::select(vec![
        "max-age=10",
        "s-maxage=20",
        "no-cache",
        "must-revalidate",
        "stale-if-error=7",
        "public",
        "max-stale",
        "stale-while-revalidate=9",
        "max-stale=3",
        "min-fresh=2",
        "only-if-cached",
        "max-age=4",
        "no-store",
    ]);
    prop::collection::vec(directive, 0..5).prop_map(|list| list.join(", "))
}

proptest! {
    /// Whatever the fields: served without asking means fresh, or permitted by both sides; and time makes nothing fresher.
    #[test]
    fn nothing_is_served_that_must_be_asked_for(
        response in any_control(), request in any_control(), age_s in 2..60_u64,
    ) {
        let stored = freshness(&format!("Cache-Control: {response}"), &lifetimes());
        let request = [("Cache-Control", request.as_str())];
        let control = CacheControl::of_request(&Fields::of_pairs(&request));
        let good_for = |age_s: u64| stored.good_for(&control, NOW_S + age_s - 2);
        let is_fresh = age_s < stored.lifetime_s;
        match good_for(age_s) {
            Use::Fresh => prop_assert!(is_fresh && !stored.no_cache && !control.no_cache),
            Use::Stale | Use::StaleWhileRevalidate => {
                prop_assert!(!is_fresh && !response.contains("must-revalidate") && !stored.no_cache);
                prop_assert!(!control.no_cache);
            }
            Use::Revalidate { if_error } => {
                prop_assert!(!control.only_if_cached);
                prop_assert!(!if_error || !response.contains("must-revalidate"));
            }
            Use::OnlyIfCached => prop_assert!(control.only_if_cached),
        }
        let was_refused = matches!(good_for(age_s), Use::Revalidate { .. } | Use::OnlyIfCached);
        let is_served_later = matches!(good_for(age_s + 1), Use::Fresh);
        prop_assert!(!(was_refused && is_served_later), "{response} / {request:?} at {age_s}");
    }
}
