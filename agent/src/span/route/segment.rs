//! What one segment of a path is by its looks alone: a word, or a value that no route names.

/// What a segment looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looks {
    /// A word, which may be a name in the route or a value: only others beside it can tell.
    Word,
    /// Certainly a value.
    Value(Value),
}

/// Kinds of values, which name the parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Numbers, UUIDs, hashes, codes, random text: `{id}`.
    Id,
    /// `{email}`
    Email,
    /// `{date}`
    Date,
    /// A file of a web site: `{file}`.
    File,
}

/// Segments longer than this are values whatever they look like.
const LONG: usize = 64;

/// Files that are served as they are.
const ASSETS: [&str; 30] = [
    "js", "mjs", "css", "map", "png", "jpg", "jpeg", "gif", "svg", "ico", "webp", "avif", "bmp", "woff",
    "woff2", "ttf", "otf", "eot", "mp4", "webm", "mp3", "wav", "ogg", "wasm", "zip", "gz", "tgz", "jar",
    "whl", "deb",
];

/// Forms in which one thing can be asked for: `/users/42.json` is `/users/42`.
const FORMS: [&str; 8] = ["json", "xml", "html", "htm", "pdf", "csv", "txt", "yaml"];

impl Value {
    /// As it stands in a route.
    pub(super) const fn placeholder(self) -> &'static str {
        match self {
            Self::Id => "{id}",
            Self::Email => "{email}",
            Self::Date => "{date}",
            Self::File => "{file}",
        }
    }
}

/// Looks at a segment. `first`: it is the path's first.
pub(super) fn look(segment: &str, first: bool) -> Looks {
    let value = |is: bool| if is { Looks::Value(Value::Id) } else { Looks::Word };
    if segment.len() > LONG {
        return Looks::Value(Value::Id);
    }
    if let Some((stem, extension)) = segment.rsplit_once('.')
        && !stem.is_empty()
    {
        // What lies at the top (favicon.ico, robots.txt) is few.
        if !first && ASSETS.iter().any(|known| extension.eq_ignore_ascii_case(known)) {
            return Looks::Value(Value::File);
        }
        if FORMS.iter().any(|known| extension.eq_ignore_ascii_case(known)) {
            return look(stem, first);
        }
    }
    if is_date(segment.as_bytes()) {
        return Looks::Value(Value::Date);
    }
    if is_email(segment) {
        return Looks::Value(Value::Email);
    }
    value(
        segment.starts_with('@') && segment.len() > 1
            || is_version(segment).is_none_or(|is| !is) && is_id(segment),
    )
}

/// `v1`, `v2.1`, `2.0` are no values; `None` where it does not begin like one.
fn is_version(segment: &str) -> Option<bool> {
    let rest = segment.strip_prefix(['v', 'V'])?;
    Some(
        rest.len() <= 6 && !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'),
    )
}

/// `2024-05-17`, with a time behind it perhaps.
fn is_date(bytes: &[u8]) -> bool {
    let Some((day, rest)) = bytes.split_at_checked(10) else { return false };
    let shaped = day.iter().enumerate().all(|(at, byte)| match at {
        4 | 7 => *byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    shaped
        && match rest {
            [] => true,
            [b'T' | b't' | b' ' | b'_', time @ ..] => time.first().is_some_and(u8::is_ascii_digit),
            _ => false,
        }
}

fn is_email(segment: &str) -> bool {
    let at = segment.split_once('@').or_else(|| segment.split_once("%40"));
    at.is_some_and(|(name, host)| {
        !name.is_empty()
            && host.split_once('.').is_some_and(|(label, top)| !label.is_empty() && !top.is_empty())
    })
}

fn is_id(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    // Numbers, lists of them, addresses, coordinates, dates in other forms.
    if digits > 0 && bytes.iter().all(|byte| byte.is_ascii_digit() || b".,-+:_".contains(byte)) {
        return true;
    }
    if is_uuid(bytes) {
        return true;
    }
    // Hashes: in words without a digit the letters a to f alone are rare, but there are some.
    let hexadecimal = bytes.iter().all(u8::is_ascii_hexdigit);
    if hexadecimal && (bytes.len() >= 8 && digits > 0 || bytes.len() >= 16) {
        return true;
    }
    if is_random(bytes, digits) {
        return true;
    }
    // `user-1234`, `ORD_00017`, `cus_NffrFeUfNV2Hib`: what stands behind the last separator.
    segment.rsplit_once(['-', '_', ':', '.', '~']).is_some_and(|(before, last)| {
        let digits = last.bytes().filter(u8::is_ascii_digit).count();
        !before.is_empty()
            && (digits >= 3 && digits == last.len() || last.len() >= 8 && is_random(last.as_bytes(), digits))
    })
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Text that nobody would type: letters and digits in turns, or capitals anywhere.
fn is_random(bytes: &[u8], digits: usize) -> bool {
    if bytes.len() < 6 || !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-=".contains(byte)) {
        return false;
    }
    let class = |byte: &u8| match byte {
        b'0'..=b'9' => 0,
        b'a'..=b'z' => 1,
        b'A'..=b'Z' => 2,
        _ => 3,
    };
    let pairs = || bytes.iter().zip(bytes.iter().skip(1));
    let runs = pairs().filter(|(a, b)| class(a) != 0 && class(b) == 0).count()
        + usize::from(bytes.first().is_some_and(u8::is_ascii_digit));
    let separators = bytes.iter().filter(|byte| class(byte) == 3).count();
    if separators == 0 && digits >= 3 && runs >= 2 {
        return true;
    }
    // A word and a number of some length.
    let trailing = bytes.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    if separators == 0 && trailing >= 3 && trailing == digits {
        return true;
    }
    let changes = pairs().filter(|(a, b)| class(a) != class(b)).count();
    bytes.len() >= 16
        && separators * 8 <= bytes.len()
        && (digits > 0 || bytes.len() >= 20)
        && changes * 5 >= bytes.len() * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_words() {
        let values = [
            (Value::Id, "1 42 00017 9007199254740993 -5 3.14 48.85,2.35 1,2,3 10.0.0.1 2024 20240517 12:30"),
            (Value::Id, "0af76519-16cd-43dd-8448-eb211c80319c 0AF76519-16CD-43DD-8448-EB211C80319C"),
            (
                Value::Id,
                "d41d8cd98f00b204e9800998ecf8427e 9f86d081 deadbeefdeadbeef 507f1f77bcf86cd799439011",
            ),
            (Value::Id, "V1StGXR8_Z5jdHi6B-myT 01ARZ3NDEKTSV4RRFFQ69G5FAV 0ujsszwN8NRY24YaXiTIE2VWDTS"),
            (
                Value::Id,
                "cus_NffrFeUfNV2Hib ORD-00017 user_12345 user123 a1b2c3d4 INV-2024-0001 @alice x7f9k2m4",
            ),
            (Value::Id, "42.json 9f86d081.html eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"),
            (Value::Email, "alice@example.org a.b+c%40mail.example.org"),
            (Value::Date, "2024-05-17 2024-05-17T10:00:00Z"),
            (Value::File, "app.js main.3f2a1b.css logo.PNG jquery.min.map"),
        ];
        for (kind, texts) in values {
            for text in texts.split(' ') {
                assert_eq!(look(text, false), Looks::Value(kind), "{text}");
            }
        }
        let words = "users user-profile order_items v1 v2.1 V3 oauth2 s3 web3 utf-8 page-2 step1 mp3 me search \
                     getUserAccountSettings2 terms-and-conditions-of-use facade decade accede feedface en-US fr \
                     alice bob how-to-cook-rice favicon well-known .well-known openid-configuration a ab index.html \
                     users.json robots.txt _next __debug__ $metadata ~alice (x) caf%C3%A9 hello%20world v v1beta1";
        for word in words.split_whitespace() {
            assert_eq!(look(word, false), Looks::Word, "{word}");
        }
        assert_eq!(look(&"a".repeat(65), false), Looks::Value(Value::Id));
        assert_eq!(look("favicon.ico", true), Looks::Word);
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_looks(text in ".*") {
            let _ = look(&text, false);
        }

        /// What databases and libraries make as keys is told at once.
        #[test]
        fn made_keys_are_values(number in 0u64.., hash in "[0-9a-f]{40}", uuid in proptest::array::uniform16(0u8..)) {
            proptest::prop_assert_eq!(look(&number.to_string(), false), Looks::Value(Value::Id));
            proptest::prop_assert_eq!(look(&hash, false), Looks::Value(Value::Id));
            let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
            let uuid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
            proptest::prop_assert_eq!(look(&uuid, false), Looks::Value(Value::Id));
        }
    }
}
