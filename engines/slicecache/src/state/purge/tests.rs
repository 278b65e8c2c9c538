//! Purges: what is ordered, what is hit; random orders against a model that keeps them all.

use super::*;
use proptest::prelude::*;

fn order(path: &str, query: Option<&str>, pairs: &[(&str, &str)]) -> Result<Vec<(Names, bool)>, BadPurge> {
    let purges = purges_of(path, query, &Fields::of_pairs(pairs))?;
    Ok(purges.into_iter().map(|purge| (purge.names, purge.is_soft)).collect())
}

/// Path, query, fields, and what they name.
type Case = (&'static str, Option<&'static str>, &'static [(&'static str, &'static str)], Vec<Names>);

#[test]
fn what_a_purge_names() {
    let target = |text: &str| Names::Target(text.to_owned());
    let prefix = |text: &str| Names::Prefix(text.to_owned());
    let tag = |text: &str| Names::Tag(text.to_owned());
    let table: [Case; 13] = [
        ("/a/./%62", None, &[], vec![target("/a/b")]),
        ("/a", Some("b=*"), &[], vec![target("/a?b=*")]),
        ("/", None, &[], vec![target("/")]),
        ("/a*", None, &[], vec![prefix("/a")]),
        ("/a/*", None, &[], vec![prefix("/a/")]),
        ("/*", None, &[], vec![Names::All]),
        ("/a", None, &[("X-Purge-All", "true")], vec![Names::All]),
        ("/a", None, &[("X-Purge-All", "false")], vec![target("/a")]),
        ("/", None, &[("X-Purge-Pattern", "/b/*")], vec![prefix("/b/")]),
        ("/", None, &[("X-Purge-Pattern", "*")], vec![Names::All]),
        ("/", None, &[("Surrogate-Key", "b a  b")], vec![tag("a"), tag("b")]),
        ("/", None, &[("Cache-Tag", "a b, c,")], vec![tag("a b"), tag("c")]),
        ("/", None, &[("Cache-Tag", "a"), ("X-Purge-All", "true")], vec![tag("a")]),
    ];
    for (path, query, pairs, expected) in table {
        let hard = expected.iter().cloned().map(|names| (names, false)).collect();
        assert_eq!(order(path, query, pairs), Ok(hard), "{path} {query:?} {pairs:?}");
        let soft = expected.into_iter().map(|names| (names, true)).collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().copied().chain([("Soft-Purge", "1")]).collect();
        assert_eq!(order(path, query, &pairs), Ok(soft), "{path} {query:?} {pairs:?}");
    }
}

#[test]
fn what_is_no_purge() {
    let long = "a".repeat(PURGE_NAME_BYTES_MAX);
    let many: Vec<String> = (0..=TAGS_MAX).map(|at| at.to_string()).collect();
    assert_eq!(order("/%", None, &[]), Err(BadPurge::Path));
    assert_eq!(order(&format!("/{long}"), None, &[]), Err(BadPurge::TooMuch));
    assert_eq!(order("/", None, &[("Cache-Tag", &many.join(","))]), Err(BadPurge::TooMuch));
    assert_eq!(order("/", None, &[("Cache-Tag", &format!("{long}a"))]), Err(BadPurge::TooMuch));
    assert_eq!(order("/", None, &[("X-Purge-All", "maybe")]), Err(BadPurge::Field));
    assert_eq!(order("/", None, &[("Soft-Purge", "2")]), Err(BadPurge::Field));
    assert_eq!(order("/", None, &[("X-Purge-Pattern", "a")]), Err(BadPurge::Field));
}

fn hard(names: Names) -> Purge {
    Purge { names, is_soft: false }
}

fn entry(generation: Generation) -> Entry<'static> {
    Entry { generation, target: "/a/b", tags: &[] }
}

#[test]
fn what_was_being_fetched_is_hit_and_what_comes_after_is_not() {
    let mut purges = Purges::new();
    let before = purges.generation();
    let order = purges.reserve(hard(Names::Target("/a/b".to_owned())));
    // Not durable yet: nothing holds, and what begins now will be hit.
    let between = purges.generation();
    assert_eq!(purges.verdict(&entry(between)), Verdict::Keep);
    purges.apply(&order);
    assert_eq!(purges.verdict(&entry(before)), Verdict::Gone);
    assert_eq!(purges.verdict(&entry(between)), Verdict::Gone);
    assert_eq!(purges.verdict(&entry(purges.generation())), Verdict::Keep);
    assert_eq!(purges.verdict(&Entry { target: "/a/bc", ..entry(before) }), Verdict::Keep);
}

/// The number that a crash lost may be given again: nothing bears it.
#[test]
fn an_order_that_was_lost_in_a_crash_leaves_no_trace() {
    let mut purges = Purges::new();
    let first = purges.reserve(hard(Names::All));
    purges.apply(&first);
    let _lost = purges.reserve(hard(Names::All));
    let newest = purges.generation();
    let mut recovered = Purges::new();
    recovered.apply(&first);
    let again = recovered.reserve(hard(Names::Target("/a/b".to_owned())));
    recovered.apply(&again);
    assert_eq!(recovered.verdict(&entry(newest)), Verdict::Gone);
}

#[test]
fn hard_beats_soft() {
    let mut purges = Purges::new();
    let soft = purges.reserve(Purge { names: Names::All, is_soft: true });
    purges.apply(&soft);
    assert_eq!(purges.verdict(&entry(0)), Verdict::Soft);
    let order = purges.reserve(hard(Names::Prefix("/a".to_owned())));
    purges.apply(&order);
    assert_eq!(purges.verdict(&entry(0)), Verdict::Gone);
    assert_eq!(purges.verdict(&Entry { target: "/b", ..entry(0) }), Verdict::Soft);
}

#[test]
fn rules_are_bounded_and_nothing_purged_comes_back() {
    let mut purges = Purges::new();
    let extra = 10;
    for at in 0..PURGE_RULES_MAX + extra {
        let order = purges.reserve(hard(Names::Target(format!("/{at}"))));
        purges.apply(&order);
    }
    assert!(purges.rules.len() <= PURGE_RULES_MAX);
    for at in [0, 1, PURGE_RULES_MAX / 2, PURGE_RULES_MAX, PURGE_RULES_MAX + extra - 1] {
        let target = format!("/{at}");
        assert_eq!(
            purges.verdict(&Entry { generation: at as u64, target: &target, tags: &[] }),
            Verdict::Gone
        );
    }
    let newest = Entry { generation: purges.generation(), target: "/0", tags: &[] };
    assert_eq!(purges.verdict(&newest), Verdict::Keep);
}

fn any_names() -> impl Strategy<Value = Names> {
    let text = || "/[ab]{0,3}";
    prop_oneof![
        1 => Just(Names::All),
        4 => text().prop_map(Names::Target),
        4 => text().prop_map(Names::Prefix),
        4 => "[xyz]".prop_map(Names::Tag),
    ]
}

fn hits(names: &Names, entry: &Entry<'_>) -> bool {
    match names {
        Names::All => true,
        Names::Target(target) => target == entry.target,
        Names::Prefix(prefix) => entry.target.starts_with(prefix),
        Names::Tag(tag) => entry.tags.contains(tag),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn random_orders_equal_the_model(
        orders in prop::collection::vec((any_names(), any::<bool>()), 0..30),
        entries in prop::collection::vec((0..32_u64, "/[ab]{0,4}", prop::collection::vec("[xyz]", 0..3)), 1..30),
        at in any::<prop::sample::Index>(),
    ) {
        let mut purges = Purges::new();
        let mut written = Vec::new();
        for (names, is_soft) in orders {
            let order = purges.reserve(Purge { names, is_soft });
            purges.apply(&order);
            written.push(order);
        }
        // Recovered from records in any order, some twice, or from a checkpoint.
        let mut recovered = Purges::new();
        let turn = if written.is_empty() { 0 } else { at.index(written.len()) };
        written.iter().cycle().skip(turn).take(written.len() * 2).for_each(|order| recovered.apply(order));
        let mut from_checkpoint = Purges::new();
        purges.orders().for_each(|order| from_checkpoint.apply(&order));
        for (generation, target, tags) in &entries {
            let generation = (*generation).min(purges.generation());
            let entry = Entry { generation, target, tags };
            let naive = written.iter().filter(|order| entry.generation < order.generation && hits(&order.purge.names, &entry));
            let naive = naive.map(|order| if order.purge.is_soft { Verdict::Soft } else { Verdict::Gone });
            let naive = naive.max().unwrap_or(Verdict::Keep);
            prop_assert_eq!(purges.verdict(&entry), naive, "{:?}", entry);
            prop_assert_eq!(recovered.verdict(&entry), naive);
            prop_assert_eq!(from_checkpoint.verdict(&entry), naive);
        }
    }
}

#[test]
fn what_is_logged_is_one_short_line() {
    let tag = |text: &str| Purge { names: Names::Tag(text.to_owned()), is_soft: false };
    let of = |names| Purge { names, is_soft: false };
    assert_eq!(listed(&[tag("films"), tag("a\nb\u{1b}")], 99), "tag \"films\", tag \"a\\nb\\u{1b}\"");
    let others = [of(Names::All), of(Names::Target("/a?b".into())), of(Names::Prefix("/a/".into()))];
    assert_eq!(listed(&others, 99), "everything, path \"/a?b\", prefix \"/a/\"");
    let many: Vec<Purge> = (10..74).map(|at| tag(&format!("t{at}"))).collect();
    assert_eq!(listed(&many, 63), "tag \"t10\", tag \"t11\", tag \"t12\" and 61 more");
    let long = [tag(&"ä".repeat(5000)), tag("b")];
    let text = listed(&long, 100);
    assert!(text.len() <= 100 && text.starts_with("tag \"ää") && text.ends_with("ä … and 1 more"), "{text}");
    for bytes_max in 40..2000 {
        assert!(
            listed(&many, bytes_max).len() <= bytes_max && listed(&long[..1], bytes_max).len() <= bytes_max
        );
    }
}

/// Whatever the fields of a PURGE hold: what it names is bounded, and its line in the log is one.
#[test]
fn fields_under_mutation() {
    const LOGGED_BYTES_MAX: usize = 200;
    let golden = [
        "Surrogate-Key: films shows\nCache-Tag: a, b\nSoft-Purge: 1",
        "X-Purge-Pattern: /films/*",
        "X-Purge-All: true\nSoft-Purge: false",
        "X: y",
    ];
    let golden = golden.map(|text| text.as_bytes().to_vec());
    let decode = |bytes: &[u8]| {
        let lines = bytes.split(|&b| b == b'\n');
        let pairs: Vec<(&[u8], &[u8])> = lines
            .filter_map(|line| line.split_at_checked(line.iter().position(|&b| b == b':')?))
            .map(|(name, value)| (name, value[1..].trim_ascii()))
            .collect();
        let fields = Fields::of_pairs(&pairs);
        let Ok(purges) = purges_of("/films/a", Some("q"), &fields) else { return false };
        assert!((1..=TAGS_MAX).contains(&purges.len()));
        for purge in &purges {
            match &purge.names {
                Names::All => {}
                Names::Tag(tag) => assert!((1..=PURGE_NAME_BYTES_MAX).contains(&tag.len())),
                Names::Prefix(text) | Names::Target(text) => {
                    assert!(text.starts_with('/') && text.len() <= PURGE_NAME_BYTES_MAX);
                }
            }
        }
        let logged = listed(&purges, LOGGED_BYTES_MAX);
        assert!(logged.len() <= LOGGED_BYTES_MAX && !logged.contains(char::is_control), "{logged:?}");
        true
    };
    mutation::fuzz("purge", &golden, |_| {}, decode);
}
