//! HTML entities as Python reads them: `html.unescape` (CPython 3.13, `Lib/html/__init__.py`), and
//! `unescape_html` of ftfy 6.3.1, which asks for the `;`.
//!
//! The table of names is that of the HTML standard, from `html-escape`, whose own functions take
//! names with `;` alone and read numbers otherwise.

use html_escape::NAMED_ENTITIES;

/// Names that the HTML standard also reads without `;`.
const WITHOUT_SEMICOLON: &str = "\
    AElig AMP Aacute Acirc Agrave Aring Atilde Auml COPY Ccedil ETH Eacute Ecirc Egrave Euml GT \
    Iacute Icirc Igrave Iuml LT Ntilde Oacute Ocirc Ograve Oslash Otilde Ouml QUOT REG THORN \
    Uacute Ucirc Ugrave Uuml Yacute aacute acirc acute aelig agrave amp aring atilde auml brvbar \
    ccedil cedil cent copy curren deg divide eacute ecirc egrave eth euml frac12 frac14 frac34 gt \
    iacute icirc iexcl igrave iquest iuml laquo lt macr micro middot nbsp not ntilde oacute ocirc \
    ograve ordf ordm oslash otilde ouml para plusmn pound quot raquo reg sect shy sup1 sup2 sup3 \
    szlig thorn times uacute ucirc ugrave uml uuml yacute yen yuml";

/// Longest name that `html.unescape` looks at, in characters.
const NAME_MAX: usize = 32;

/// Longest entity that ftfy looks at, in characters.
const WHOLE_MAX: usize = 24;

/// Numbers 0x80 to 0x9f: what Windows-1252 has there, as browsers read them.
const WINDOWS_1252: &str = "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ";

/// Entities of any form, once.
pub(super) fn unescape(text: &str) -> String {
    replace(text, |after| match after.strip_prefix('#') {
        Some(digits) => number(digits).map(|(text, used)| (text, used + 1)),
        None => name(after),
    })
}

/// Entities that end in `;`, once.
pub(super) fn unescape_whole(text: &str) -> String {
    replace(text, |after| {
        let digits = after.strip_prefix('#');
        let body = digits.unwrap_or(after);
        let length = body.find(|c: char| !c.is_ascii_alphanumeric())?;
        if !(1..=WHOLE_MAX).contains(&length) || !body[length..].starts_with(';') {
            return None;
        }
        if digits.is_none() {
            return Some((named(&body[..length])?.to_owned(), length + 1));
        }
        let (text, used) = number(body)?;
        (used == length + 1 && !text.contains(';')).then_some((text, used + 1))
    })
}

/// Puts what `decode` makes of what follows each `&` in its place, with the bytes that it took.
fn replace(text: &str, decode: impl Fn(&str) -> Option<(String, usize)>) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut left = text;
    while let Some((before, after)) = left.split_once('&') {
        replaced.push_str(before);
        let (decoded, used) = decode(after).unwrap_or_else(|| ("&".to_owned(), 0));
        replaced.push_str(&decoded);
        left = &after[used..];
    }
    replaced.push_str(left);
    replaced
}

/// The character of `12;` or `x1F;`, and the bytes of that.
fn number(digits: &str) -> Option<(String, usize)> {
    let hexadecimal = digits.strip_prefix(['x', 'X']);
    let (radix, body) = hexadecimal.map_or((10, digits), |body| (16, body));
    let length = body.find(|c: char| !c.is_digit(radix)).unwrap_or(body.len());
    if length == 0 {
        return None;
    }
    let number = body[..length]
        .chars()
        .filter_map(|c| c.to_digit(radix))
        .fold(0_u32, |sum, d| sum.saturating_mul(radix).saturating_add(d));
    let used = digits.len() - body.len() + length;
    let used = used + usize::from(body[length..].starts_with(';'));
    Some((character(number).map_or_else(String::new, String::from), used))
}

/// The character of a number; none for those that no text has.
fn character(number: u32) -> Option<char> {
    let is_control = matches!(number, 0x1..=0x8 | 0xb | 0xe..=0x1f | 0x7f);
    let is_none = matches!(number, 0xfdd0..=0xfdef) || number & 0xfffe == 0xfffe;
    match number {
        0 => Some('\u{fffd}'),
        0x80..=0x9f => WINDOWS_1252.chars().nth(number as usize - 0x80),
        // Too high ones and halves of pairs come before those that are no characters.
        _ => match char::from_u32(number) {
            None => Some('\u{fffd}'),
            Some(_) if is_control || is_none => None,
            character => character,
        },
    }
}

/// The text of `name;`, or of the longest name without `;` that `after` begins with.
fn name(after: &str) -> Option<(String, usize)> {
    let is_end = |c: char| matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';');
    let end = after.char_indices().take(NAME_MAX).find(|(_, c)| is_end(*c)).map(|(at, _)| at);
    let past = after.char_indices().nth(NAME_MAX).map_or(after.len(), |(at, _)| at);
    let body = &after[..end.unwrap_or(past)];
    if after[body.len()..].starts_with(';')
        && let Some(text) = named(body)
    {
        return Some((text.to_owned(), body.len() + 1));
    }
    let known = WITHOUT_SEMICOLON.split(' ').filter(|name| body.starts_with(name));
    let longest = known.max_by_key(|name| name.len())?;
    Some((named(longest)?.to_owned(), longest.len()))
}

/// The text of a name, which is without `;`.
fn named(name: &str) -> Option<&'static str> {
    let found = NAMED_ENTITIES.binary_search_by(|(known, _)| (*known).cmp(name.as_bytes()));
    found.ok().map(|place| NAMED_ENTITIES[place].1)
}
