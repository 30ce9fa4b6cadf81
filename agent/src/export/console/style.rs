//! Colours, and texts of a fixed width.

use super::super::text::digits;

/// Colours of terminals, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    pub(super) colours: bool,
}

/// An ANSI colour.
#[derive(Clone, Copy, Debug)]
pub(super) enum Colour {
    Dim,
    Red,
    Green,
    Yellow,
    Blue,
    Magenta,
    Bold,
}

impl Style {
    /// Writes a text in a colour.
    pub(super) fn paint(self, out: &mut String, colour: Colour, write: impl FnOnce(&mut String)) {
        if !self.colours {
            return write(out);
        }
        out.push_str(match colour {
            Colour::Dim => "\x1b[2m",
            Colour::Red => "\x1b[31m",
            Colour::Green => "\x1b[32m",
            Colour::Yellow => "\x1b[33m",
            Colour::Blue => "\x1b[34m",
            Colour::Magenta => "\x1b[35m",
            Colour::Bold => "\x1b[1m",
        });
        write(out);
        out.push_str("\x1b[0m");
    }
}

/// Adds spaces.
pub(super) fn pad(out: &mut String, n: usize) {
    const SPACES: &str = "                                                                ";
    let mut left = n;
    while left > 0 {
        let some = left.min(SPACES.len());
        out.push_str(SPACES.get(..some).unwrap_or_default());
        left -= some;
    }
}

/// Adds a text and spaces up to a width.
pub(super) fn left(out: &mut String, text: &str, width: usize) {
    let used = visible(out, text, usize::MAX);
    pad(out, width.saturating_sub(used));
}

/// Adds spaces and a text that ends at a width. The text must be printable ASCII.
pub(super) fn right(out: &mut String, text: &str, width: usize) {
    pad(out, width.saturating_sub(text.len()));
    out.push_str(text);
}

/// Adds at most `max` characters of a text and returns how many. Control characters, which would act on the terminal, are
/// replaced; a text that was cut ends in a dot of three.
pub(super) fn visible(out: &mut String, text: &str, max: usize) -> usize {
    if text.len() <= max && text.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        out.push_str(text);
        return text.len();
    }
    let fits = text.chars().nth(max).is_none();
    let keep = if fits { max } else { max.saturating_sub(1) };
    let mut used = 0;
    for c in text.chars().take(keep) {
        out.push(if c.is_control() { '\u{fffd}' } else { c });
        used += 1;
    }
    if !fits {
        out.push('…');
        used += 1;
    }
    used
}

/// Adds a duration in three significant digits, right-aligned to eight characters.
pub(super) fn duration(out: &mut String, nanos: u64) {
    let start = out.len();
    pad(out, 8);
    let (unit, name) = match nanos {
        0..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let whole = nanos / unit;
    let decimals = if unit == 1 { 0 } else { usize::from(whole < 100) + usize::from(whole < 10) };
    digits(out, whole, 1);
    if decimals > 0 {
        out.push('.');
        let thousandths = nanos % unit * 1_000 / unit;
        digits(out, if decimals == 1 { thousandths / 100 } else { thousandths / 10 }, decimals);
    }
    out.push_str(name);
    let surplus = (out.len() - start).saturating_sub(8).min(8);
    out.replace_range(start..start + surplus, "");
}
