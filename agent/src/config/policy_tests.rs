//! Samplers, routes, privacy and limits as variables and file give them.

use std::path::Path;
use std::sync::Arc;

use super::super::{Config, Document, Environment, RunArgs};
use super::*;

fn policy(variables: &[(&str, &str)]) -> (Policy, Vec<String>) {
    let config = Config::new(&RunArgs::default(), &Environment::of(variables.iter().copied())).unwrap();
    (config.policy, config.warnings)
}

fn of_file(text: &str) -> Result<Policy, String> {
    let document = Document::parse(Path::new("f"), text).map_err(|problems| problems[0].to_string())?;
    let environment = Environment::default().with_file(Some(Arc::new(document)));
    Config::new(&RunArgs::default(), &environment).map(|config| config.policy).map_err(|why| why.to_string())
}

#[test]
fn samplers() {
    let half = Root::Ratio(Ratio::new(0.5).unwrap());
    let (type_of, arg) = ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG");
    /// Variables, and what they should give: parent-based, root, warnings.
    type Case<'a> = (&'a [(&'a str, &'a str)], bool, Root, usize);
    let cases: &[Case<'_>] = &[
        (&[], true, Root::AlwaysOn, 0),
        (&[(type_of, "always_on")], false, Root::AlwaysOn, 0),
        (&[(type_of, "always_off")], false, Root::AlwaysOff, 0),
        (&[(type_of, "parentbased_always_off")], true, Root::AlwaysOff, 0),
        (&[(type_of, "traceidratio"), (arg, "0.5")], false, half, 0),
        (&[(type_of, "parentbased_traceidratio"), (arg, " 0.5 ")], true, half, 0),
        (&[(type_of, "traceidratio")], false, Root::AlwaysOn, 0),
        (&[(type_of, "traceidratio"), (arg, "0")], false, Root::Ratio(Ratio::new(0.0).unwrap()), 0),
        (&[(type_of, "traceidratio"), (arg, "1.5")], false, Root::AlwaysOn, 1),
        (&[(type_of, "traceidratio"), (arg, "half")], false, Root::AlwaysOn, 1),
        (&[(type_of, "jaeger_remote")], true, Root::AlwaysOn, 1),
        (&[(type_of, "ALWAYS_OFF")], true, Root::AlwaysOn, 1),
    ];
    for (variables, parent_based, root, warned) in cases {
        let (policy, warnings) = policy(variables);
        assert_eq!(policy.sampler, Sampler { parent_based: *parent_based, root: *root }, "{variables:?}");
        assert_eq!(warnings.len(), *warned, "{warnings:?}");
    }
    assert_eq!(
        of_file("sampler:\n  type: sometimes\n").unwrap_err(),
        "f:2: sampler.type: sometimes does not fit\n  hint: write always_on, always_off or traceidratio, each \
         perhaps with parentbased_ before it"
    );
}

#[test]
fn what_is_left_to_applications_that_trace_themselves() {
    assert_eq!(policy(&[]).0.on_sdk, OnSdk::Skip);
    for (name, on_sdk) in OnSdk::ALL {
        assert_eq!(policy(&[("SONDE_ON_SDK", name)]).0.on_sdk, on_sdk);
        assert_eq!(of_file(&format!("on_sdk: {name}")).unwrap().on_sdk, on_sdk);
        let args = RunArgs { policy: PolicyArgs { on_sdk: Some(on_sdk) }, ..RunArgs::default() };
        let config = Config::new(&args, &Environment::of([("SONDE_ON_SDK", "keep")])).unwrap();
        assert_eq!(config.policy.on_sdk, on_sdk);
        let shown = config.print();
        assert!(shown.contains(&format!("on_sdk: {name} ")) && shown.contains("# --on-sdk"), "{shown}");
    }
    let (policy, warnings) = policy(&[("SONDE_ON_SDK", "drop")]);
    assert_eq!((policy.on_sdk, warnings.len()), (OnSdk::Skip, 1));
    assert_eq!(
        of_file("on_sdk: drop\n").map(|_| ()).unwrap_err(),
        "f:1: on_sdk: drop does not fit\n  hint: write skip, metrics_only or keep"
    );
}

#[test]
fn secrets_are_named_twice_or_not_captured() {
    for header in [
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "Set-Cookie",
        "X-Api-Key",
        "X-Auth-Token",
        "apikey",
        "X-Amz-Security-Token",
        "X-CSRF-Token",
        "X-Session-Id",
        "WWW-Authenticate",
    ] {
        let once = format!("privacy:\n  headers:\n    request: [accept, {header}]\n");
        let said = of_file(&once).unwrap_err();
        let name = header.to_ascii_lowercase();
        assert!(
            said.starts_with(&format!("f:3: privacy.headers.request: {name} holds secrets\n  hint:")),
            "{said}"
        );
        let twice = of_file(&format!("{once}    sensitive: [{header}]\n")).unwrap();
        assert!(twice.capture.request.find(header.as_bytes()).is_some());
        assert!(twice.capture.response.is_empty());
        let variables = [("SONDE_PRIVACY_HEADERS_RESPONSE", header)];
        let refused = Config::new(&RunArgs::default(), &Environment::of(variables)).unwrap_err().to_string();
        assert!(refused.starts_with("SONDE_PRIVACY_HEADERS_RESPONSE: "), "{refused}");
    }
    let plain =
        of_file("privacy: {headers: {response: [content-type, X-Request-Id, etag, x-author]}}").unwrap();
    assert!(plain.capture.response.find(b"x-request-id").is_some());
    assert!(of_file("privacy: {headers: {request: ['x y']}}").unwrap_err().contains("x y does not fit"));
}

#[test]
fn paths_and_queries() {
    let default = of_file("").unwrap();
    for (path, excluded) in [
        ("/health", true),
        ("/healthz", true),
        ("/livez", true),
        ("/readyz?verbose", true),
        ("/metrics", true),
        ("/metrics/daily", false),
        ("/", false),
        ("/api/health", false),
    ] {
        assert_eq!(default.capture.excluded.match_target(path.as_bytes()), excluded, "{path}");
    }
    let none = of_file("privacy: {excluded_paths: []}").unwrap();
    assert!(!none.capture.excluded.match_target(b"/health"));
    assert!(
        of_file("privacy: {excluded_paths: [health]}").unwrap_err().contains("write a path such as /health")
    );
    let shown = of_file("privacy: {query: {values: shown, allowed_keys: [a]}}").unwrap().wording.query;
    assert_eq!(shown, QueryRules { values: QueryValues::Shown, allowed: vec!["a".into()] });
    assert!(
        of_file("privacy: {query: {values: hidden}}")
            .unwrap_err()
            .contains("write redacted, shown or dropped")
    );
}

#[test]
fn routes_by_service() {
    let policy = of_file(
        "routes:\n  learn: false\n  patterns:\n    shop-*:\n      - /users/{id}\n      - /static/*\n    'a,b': /x\n",
    )
    .unwrap();
    assert!(!policy.routes.learn);
    let found: Vec<(&str, usize)> =
        policy.routes.patterns.iter().map(|(glob, patterns)| (glob.pattern(), patterns.len())).collect();
    assert_eq!(found, [("a,b", 1), ("shop-*", 2)]);
    assert_eq!(
        of_file("routes:\n  patterns:\n    shop: ['/users/{id}', users]\n").unwrap_err(),
        "f:3: routes.patterns: shop: users does not fit\n  hint: write a path such as /users/{id} or /static/*"
    );
    let refused = Config::new(&RunArgs::default(), &Environment::of([("SONDE_ROUTES_PATTERNS", "/users")]));
    assert!(refused.unwrap_err().to_string().contains("write a JSON object"));
}

#[test]
fn limits_propagators_and_names() {
    let (limited, _) = policy(&[
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "10"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "5"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "7"),
        ("OTEL_SEMCONV_STABILITY_OPT_IN", "database, http/dup"),
    ]);
    assert_eq!(limited.wording.limits, SpanLimits { attributes: 7, length: 10 });
    assert_eq!(limited.wording.names, HttpNames::Both);
    let (other, warnings) = policy(&[("OTEL_PROPAGATORS", "b3,xray,jaeger,b3")]);
    assert_eq!(other.capture.propagators, Propagators::new(vec![Propagator::B3, Propagator::Jaeger]));
    assert_eq!(warnings.len(), 1);
    assert_eq!(policy(&[("OTEL_PROPAGATORS", "none")]).0.capture.propagators, Propagators::new(vec![]));
    assert!(policy(&[]).0.capture.propagators.is_default());
}
