//! Generated workloads whose templates are known: how many requests get their true route, how many a wrong one, and that
//! nothing grows without bounds.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A small generator of its own, so that a workload is the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    /// Small numbers far more often than large ones, as popular things are.
    fn zipf(&mut self, bound: u64) -> u64 {
        let share = self.below(1 << 20) as f64 / f64::from(1 << 20);
        ((bound as f64).powf(share) - 1.0) as u64
    }

    fn text(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(alphabet[self.below(alphabet.len() as u64) as usize])).collect()
    }
}

const NAMES: [&str; 12] =
    ["anna", "bob", "carla", "dmitri", "eva", "farid", "greta", "hugo", "ines", "jun", "kofi", "lena"];
const WORDS: [&str; 16] = [
    "red", "blue", "fast", "slow", "cheap", "garden", "kitchen", "lamp", "chair", "table", "winter",
    "summer", "wooden", "steel", "small", "large",
];

/// Text for a placeholder of a template.
fn fill(kind: &str, dice: &mut Dice) -> String {
    match kind {
        "number" => dice.zipf(1_000_000).to_string(),
        "uuid" => {
            let hex = dice.text(b"0123456789abcdef", 32);
            format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
        }
        "hash" => dice.text(b"0123456789abcdef", 40),
        "nano" => dice.text(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", 21),
        "ulid" => format!("01{}", dice.text(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", 24)),
        "code" => format!("ORD-{:05}", dice.below(100_000)),
        "date" => format!("20{:02}-{:02}-{:02}", dice.below(30), 1 + dice.below(12), 1 + dice.below(28)),
        "email" => format!("{}{}@example.org", NAMES[dice.below(12) as usize], dice.below(1000)),
        // Popular users come again and again, and there is always another one.
        "user" => {
            let who = dice.zipf(2000);
            format!("{}{}", NAMES[who as usize % 12], WORDS[who as usize / 12 % 16])
        }
        // As many as there are users, each as often: 300 words.
        "word" => {
            let which = dice.below(300);
            format!("{}{}", WORDS[which as usize % 16], NAMES[which as usize / 16 % 12])
        }
        "slug" => {
            let words: Vec<&str> = (0..3 + dice.below(3)).map(|_| WORDS[dice.below(16) as usize]).collect();
            words.join("-")
        }
        "asset" => {
            format!("{}.{}", WORDS[dice.below(16) as usize], ["js", "css", "png"][dice.below(3) as usize])
        }
        other => panic!("{other}"),
    }
}

/// A path of a template such as `/users/<number>`, and the route that it should get: every placeholder is `{}`.
fn path(template: &str, dice: &mut Dice) -> (String, String) {
    let (mut path, mut route) = (String::new(), String::new());
    for segment in template.split('/').skip(1) {
        path.push('/');
        route.push('/');
        match segment.strip_prefix('<').and_then(|kind| kind.strip_suffix('>')) {
            Some(kind) => {
                path.push_str(&fill(kind, dice));
                route.push_str("{}");
            }
            None => {
                path.push_str(segment);
                route.push_str(segment);
            }
        }
    }
    (path, route)
}

fn unnamed(route: &str) -> String {
    let segments = route.split('/').map(|segment| if segment.starts_with('{') { "{}" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

/// Shares of the requests, in thousandths.
#[derive(Debug)]
struct Score {
    right: usize,
    wrong: usize,
    /// The same over the second half alone.
    right_later: usize,
    wrong_later: usize,
    /// Different routes given out, and those of them that are a template's.
    routes: usize,
    true_routes: usize,
    templates: usize,
}

fn score(templates: &[&str], requests: usize, seed: u64, weight: impl Fn(u64) -> u64) -> Score {
    let mut dice = Dice(seed);
    let mut routes = Routes::default();
    let mut counts = [[0usize; 3]; 2];
    let mut given: BTreeSet<String> = BTreeSet::new();
    let truth: BTreeSet<String> = templates.iter().map(|template| path(template, &mut Dice(1)).1).collect();
    for n in 0..requests {
        let which = weight(dice.roll()) as usize % templates.len();
        let (path, expected) = path(templates[which], &mut dice);
        let found = match routes.served("shop", &path, Some(200)) {
            Route::Known(route) => {
                given.insert(unnamed(&route));
                if unnamed(&route) == expected { 0 } else { 1 }
            }
            Route::Unknown | Route::Overflow => 2,
        };
        counts[n * 2 / requests][found] += 1;
    }
    let half = requests / 2;
    let share = |counts: usize, of: usize| counts * 1000 / of;
    Score {
        right: share(counts[0][0] + counts[1][0], requests),
        wrong: share(counts[0][1] + counts[1][1], requests),
        right_later: share(counts[1][0], half),
        wrong_later: share(counts[1][1], half),
        routes: given.len(),
        true_routes: given.intersection(&truth).count(),
        templates: truth.len(),
    }
}

const SHOP: [&str; 12] = [
    "/api/v1/users",
    "/api/v1/users/<number>",
    "/api/v1/users/<number>/orders",
    "/api/v1/users/<number>/orders/<uuid>",
    "/api/v1/products/<slug>",
    "/api/v1/products/<slug>/reviews",
    "/api/v2/users/<number>",
    "/calendar/<date>/slots",
    "/profiles/<user>",
    "/profiles/<user>/followers",
    "/static/css/<asset>",
    "/login",
];

const FORGE: [&str; 16] = [
    "/",
    "/explore",
    "/repos/<user>/<word>",
    "/repos/<user>/<word>/commits",
    "/repos/<user>/<word>/commits/<hash>",
    "/repos/<user>/<word>/issues",
    "/repos/<user>/<word>/issues/<number>",
    "/repos/<user>/<word>/issues/<number>/comments",
    "/accounts/<email>",
    "/accounts/<email>/keys/<nano>",
    "/gists/<hash>",
    "/gists/<hash>/raw",
    "/search/code",
    "/search/users",
    "/api/v3/rate_limit",
    "/static/js/<asset>",
];

const BANK: [&str; 14] = [
    "/v1/accounts",
    "/v1/accounts/<uuid>",
    "/v1/accounts/<uuid>/transactions",
    "/v1/accounts/<uuid>/transactions/<ulid>",
    "/v1/orders/<code>",
    "/v1/orders/<code>/cancel",
    "/v1/orders/<code>/refund",
    "/v1/reports/<date>",
    "/v1/reports/<date>/<word>",
    "/v1/customers/<email>/cards",
    "/v2/accounts/<uuid>",
    "/v2/transfers",
    "/internal/jobs/<nano>/retry",
    "/oauth2/token",
];

#[test]
fn learned_routes_are_the_true_templates() {
    let mut table = String::new();
    for (name, templates) in [("shop", &SHOP[..]), ("forge", &FORGE[..]), ("bank", &BANK[..])] {
        for (mix, weight) in
            [("even", (|n| n) as fn(u64) -> u64), ("skewed", |n| (n % 97) * (n / 97 % 97) / 97)]
        {
            for seed in 1..=2 {
                let score = score(templates, 8_000, seed, weight);
                table.push_str(&format!("{name} {mix} {seed}: {score:?}\n"));
                assert!(score.wrong <= 1 && score.wrong_later == 0, "{name} {mix} {seed}: {score:?}");
                assert!(score.right >= 985 && score.right_later >= 998, "{name} {mix} {seed}: {score:?}");
                assert_eq!(
                    [score.true_routes, score.routes],
                    [score.templates; 2],
                    "{name} {mix} {seed}: {score:?}"
                );
            }
        }
    }
    println!("{table}");
}

/// Every path is a route of its own where the words are few, and there is one route where they are many.
#[test]
fn words_as_ids() {
    let mut routes = Routes::default();
    let mut dice = Dice(7);
    let mut given: BTreeMap<String, usize> = BTreeMap::new();
    for n in 0..5000 {
        let user = fill("word", &mut dice);
        let action = ["", "/posts", "/posts/archive"][n % 3];
        if let Route::Known(route) = routes.served("s", &format!("/users/{user}{action}"), Some(200)) {
            *given.entry(route.to_string()).or_default() += 1;
        }
        // Often asked for among the users: stays what it is.
        if let Route::Known(route) = routes.served("s", "/users/me", Some(200)) {
            *given.entry(route.to_string()).or_default() += 1;
        }
    }
    let routes: Vec<&str> = given.keys().map(String::as_str).collect();
    assert_eq!(routes, ["/users/me", "/users/{id}", "/users/{id}/posts", "/users/{id}/posts/archive"]);
    assert!(given["/users/{id}"] > 1600 && given["/users/me"] > 4900, "{given:?}");
}

#[test]
fn a_scan_teaches_nothing() {
    let mut routes = Routes::default();
    let mut dice = Dice(3);
    let mut known = 0;
    for n in 0..50_000u32 {
        let scanned =
            format!("/{}/{}.php", dice.text(b"abcdefghijklmnop", 7), dice.text(b"abcdefghijklmnop", 5));
        assert_eq!(routes.served("s", &scanned, Some(404)), Route::Unknown);
        assert_eq!(routes.served("s", &format!("/{n}"), Some(404)), Route::Unknown);
        known += usize::from(
            routes.served("s", "/api/users/7", Some(200)) == Route::Known("/api/users/{id}".into()),
        );
        // Below a route that is known, what is not there has the route all the same.
        if known > 10 {
            assert_eq!(
                routes.served("s", &format!("/api/users/{n}"), Some(404)),
                Route::Known("/api/users/{id}".into())
            );
        }
    }
    assert!(known > 49_990 && routes.places < 10, "{known} {}", routes.places);
}

/// A server that answers 200 to everything.
#[test]
fn fifty_thousand_urls_stay_few_routes() {
    for depth in 1..=6 {
        let mut routes = Routes::default();
        let mut dice = Dice(depth);
        let mut given = BTreeSet::new();
        for _ in 0..50_000 {
            let path: String =
                (0..1 + dice.below(depth)).map(|_| format!("/{}", dice.text(b"aeioulmnrst", 5))).collect();
            if let Route::Known(route) = routes.served("s", &path, Some(200)) {
                given.insert(route.to_string());
            }
        }
        assert!(given.len() <= 2 * depth as usize, "{depth}: {given:?}");
        assert!(routes.places <= PLACES);
    }
}

#[test]
fn a_thousand_services_with_many_routes_stay_within_bounds() {
    let mut routes = Routes::new(RouteRules { limit: 20, ..RouteRules::default() });
    let mut given: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    let mut overflow = 0;
    for round in 0..4 {
        for service in 0..1100 {
            for a in 0..8 {
                for b in 0..8 {
                    let path = format!("/{}/{}", WORDS[a], WORDS[(a + b) % 16]);
                    match routes.served(&format!("s{service}"), &path, Some(200)) {
                        Route::Known(route) => {
                            given.entry(service).or_default().insert(route.to_string());
                        }
                        Route::Overflow => overflow += 1,
                        Route::Unknown => assert!(round < 3 || service < 1024),
                    }
                }
            }
        }
    }
    assert!(given.values().all(|routes| routes.len() <= 20));
    assert!(routes.services.len() <= SERVICES && routes.places <= ALL_PLACES, "{}", routes.places);
    assert!(overflow > 1100 * 20, "{overflow}");
}

#[test]
fn configured_patterns_come_first() {
    let parse = |pattern: &str| pattern.parse::<RoutePattern>().unwrap();
    let mut rules = RouteRules {
        learn: false,
        patterns: vec![(
            "shop-*".parse().unwrap(),
            vec![parse("/users/me"), parse("/users/{name}"), parse("/files/*")],
        )],
        templates: vec![("api.example.org".parse().unwrap(), vec![parse("/v1/items/{item}")])],
        ..RouteRules::default()
    };
    let mut routes = Routes::new(rules.clone());
    let known = |text: &str| Route::Known(text.into());
    assert_eq!(routes.served("shop-eu", "/users/anna", Some(404)), known("/users/{name}"));
    assert_eq!(routes.served("shop-eu", "/users/me", None), known("/users/me"));
    assert_eq!(routes.served("shop-eu", "/files/a/b", Some(200)), known("/files/*"));
    assert_eq!(routes.served("shop-eu", "/items/7", Some(200)), Route::Unknown);
    assert_eq!(routes.served("other", "/users/anna", Some(200)), Route::Unknown);
    assert_eq!(routes.called("api.example.org", "/v1/items/7").as_deref(), Some("/v1/items/{item}"));
    assert_eq!(routes.called("api.example.com", "/v1/items/7"), None);
    rules.learn = true;
    rules.patterns.clear();
    routes.set_rules(rules);
    assert_eq!(routes.served("shop-eu", "/users/anna", Some(200)), Route::Unknown);
    assert_eq!(routes.served("shop-eu", "/7", Some(200)), known("/{id}"));
}

#[test]
fn a_parameter_with_several_kinds_of_values_is_one() {
    let mut routes = Routes::default();
    let mut last = Route::Unknown;
    for path in ["/u/a@b.org", "/u/a@b.org", "/u/a@b.org", "/u/c@b.org"] {
        last = routes.served("s", path, Some(200));
    }
    assert_eq!(last, Route::Known("/u/{email}".into()));
    assert_eq!(routes.served("s", "/u/17", Some(200)), Route::Known("/u/{id}".into()));
    assert_eq!(routes.served("s", "/u/a@b.org", Some(200)), Route::Known("/u/{id}".into()));
    assert_eq!(routes.served("s", "/u/18;jsessionid=1/", Some(200)), Route::Known("/u/{id}".into()));
}

proptest::proptest! {
    /// The same paths in the same order give the same routes, whatever they are, and every route fits its path.
    #[test]
    fn any_paths(paths in proptest::collection::vec("(/[a-c0-9@.;%-]{0,3}){0,5}/?", 0..300), status in 200u16..600) {
        let run = || {
            let mut routes = Routes::new(RouteRules { limit: 30, ..RouteRules::default() });
            paths.iter().map(|path| routes.served("s", path, Some(status))).collect::<Vec<_>>()
        };
        let first = run();
        proptest::prop_assert_eq!(&first, &run());
        for (path, route) in paths.iter().zip(&first) {
            if let Route::Known(route) = route {
                let segments = |text: &str| text.strip_prefix('/').unwrap_or(text).split('/').count();
                proptest::prop_assert_eq!(segments(route), segments(path.strip_suffix('/').unwrap_or(path)));
            }
        }
    }
}
