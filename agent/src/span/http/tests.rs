//! HTTP exchanges as the semantic conventions name them.

use crate::span::Wording;

use super::{Addressed, Host, Target, forwarded, lower, write_ip};

#[test]
fn targets() {
    let check = |method: &str, target: &str, expect: (Option<&str>, Option<&str>, &str, Option<&str>)| {
        let Target { scheme, authority, path, query } = Target::parse(method, target);
        assert_eq!((scheme, authority, path, query), expect, "{method} {target}");
    };
    check("GET", "/", (None, None, "/", None));
    check("GET", "/a/b?c=d", (None, None, "/a/b", Some("c=d")));
    check("GET", "/a?", (None, None, "/a", None));
    check("GET", "/a?b?c", (None, None, "/a", Some("b?c")));
    check("GET", "/a?u=http://x/y", (None, None, "/a", Some("u=http://x/y")));
    check("GET", "//double//slash", (None, None, "//double//slash", None));
    check("GET", "/go/http://x/", (None, None, "/go/http://x/", None));
    check("GET", "/a#frag", (None, None, "/a", None));
    check("OPTIONS", "*", (None, None, "*", None));
    check("GET", "http://example.com", (Some("http"), Some("example.com"), "/", None));
    check("GET", "http://example.com?x=1", (Some("http"), Some("example.com"), "/", Some("x=1")));
    check("GET", "HTTPS://u:p@h:8/p?q#f", (Some("HTTPS"), Some("u:p@h:8"), "/p", Some("q")));
    check("CONNECT", "example.com:443", (None, Some("example.com:443"), "", None));
    check("CONNECT", "/chat?x=1", (None, None, "/chat", Some("x=1")));
    check("GET", "", (None, None, "", None));
    check("", "", (None, None, "", None));
}

#[test]
fn hosts() {
    let check = |authority: &str, name: &str, port: Option<u16>, user: bool| {
        let host = Host::parse(authority);
        assert_eq!((&*host.name, host.port, host.has_user), (name, port, user), "{authority}");
    };
    check("example.com", "example.com", None, false);
    check("example.com:8080", "example.com", Some(8080), false);
    check("example.com:", "example.com", None, false);
    check("example.com:99999", "example.com", None, false);
    check("127.0.0.1:80", "127.0.0.1", Some(80), false);
    check("[::1]", "::1", None, false);
    check("[2001:db8::1]:443", "2001:db8::1", Some(443), false);
    check("user:secret@example.com:1", "example.com", Some(1), true);
    check("a@b@example.com", "example.com", None, true);
    check("", "", None, false);
}

#[test]
fn urls_hide_secrets() {
    let check = |method: &str, target: &str, host: &str, expect: &str| {
        let target = Target::parse(method, target);
        let host = Host::parse(target.authority.unwrap_or(host));
        let addressed = Addressed { scheme: lower(target.scheme.unwrap_or("http")), host: None, target };
        let mut url = String::new();
        assert!(addressed.write_url(Some(&host), &Wording::default(), &mut url));
        assert_eq!(url, expect);
    };
    check("GET", "/a?b=c", "h", "http://h/a?b=REDACTED");
    check("GET", "/a", "h:80", "http://h/a");
    check("GET", "/a", "h:8080", "http://h:8080/a");
    check("GET", "/a", "[::1]:8080", "http://[::1]:8080/a");
    check("GET", "https://u:p@h:443/x?token=1&z", "other", "https://REDACTED:REDACTED@h/x?token=REDACTED&z");
    check("GET", "http://u@h/x", "other", "http://REDACTED:REDACTED@h/x");
    check("CONNECT", "h:443", "h:443", "h:443");
    check("CONNECT", "h:80", "h:80", "h:80");
    check("OPTIONS", "*", "h", "http://h");
}

#[test]
fn forwarded_addresses() {
    for (element, expect) in [
        ("192.0.2.43", Some("192.0.2.43")),
        (" 192.0.2.43 ", Some("192.0.2.43")),
        ("192.0.2.43:47011", Some("192.0.2.43")),
        ("\"[2001:db8:cafe::17]:4711\"", Some("2001:db8:cafe::17")),
        ("[2001:db8::1]", Some("2001:db8::1")),
        ("2001:DB8::1", Some("2001:db8::1")),
        ("_gazonk", Some("_gazonk")),
        ("unknown", None),
        ("Unknown", None),
        ("", None),
        ("\"\"", None),
    ] {
        assert_eq!(forwarded(element).as_deref(), expect, "{element}");
    }
}

#[test]
fn addresses_read_as_they_are_written() {
    let ip_text = |ip| {
        let mut text = String::new();
        write_ip(ip, &mut text);
        text
    };
    for octet in 0..=u8::MAX {
        let ip = std::net::IpAddr::from([octet, 255 - octet, octet / 2, 9]);
        assert_eq!(ip_text(ip), ip.to_string());
    }
    assert_eq!(ip_text("2001:db8::1".parse().unwrap()), "2001:db8::1");
}
