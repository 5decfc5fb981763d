use super::clean;
use crate::tokenizer::published;

fn all(pairs: &[(&str, &str)]) {
    for (prompt, cleaned) in pairs {
        assert_eq!(clean(prompt), *cleaned, "{prompt:?}");
    }
}

#[test]
fn entities_are_read() {
    all(&[
        ("Tom &amp; Jerry &lt;3", "Tom & Jerry <3"),
        ("&amp;amp;amp; &amp;amp;amp;amp;", "& &amp;"),
        // The first time only with `;`, and not where there is a `<`; the others anyway.
        ("a &copy b <", "a © b <"),
        ("&notit; &notin; this&not that", "¬it; ∉ this¬ that"),
        (
            "AT&T, R&D & co &; &# &#; &#x; &#xz &unknown; &;",
            "AT&T, R&D & co &; &# &#; &#x; &#xz &unknown; &;",
        ),
        (
            "&#65;&#x42;&#X43 &#0; &#128; &#1; &#xd800; &#99999999999;",
            "ABC \u{fffd} € \u{fffd} \u{fffd}",
        ),
        ("&nbsp;x&nbsp;&#10;y", "x y"),
        ("&NotEqualTilde;", "≂\u{338}"),
        ("&#65535;&#xfdd0;z", "z"),
        ("&#x26;lt;", "<"),
        ("&éamp; &ampé", "&éamp; &é"),
    ]);
    let long = "x".repeat(40);
    assert_eq!(clean(&format!("&{long}; &amp{long};")), format!("&{long}; &{long};"));
}

#[test]
fn ligatures_become_letters() {
    all(&[("ﬁne ﬂuid oﬀ eﬃgy baﬄe ﬅ ﬆ", "fine fluid off effigy baffle ſt st")]);
    all(&[("Ĳs ĳs ŉ ǆ Ǉ", "IJs ijs 'n dž LJ"), ("œ æ ß", "œ æ ß")]);
}

#[test]
fn widths_become_normal() {
    all(&[
        ("过曝，静态。Ａｂ１！～　ｘ", "过曝,静态。Ab1!~ x"),
        ("ｶﾞｷﾞ ﾊﾟ ｱｰ", "ガギ パ アー"),
        ("ﾡ ￦ ￣", "\u{1100} ₩ \u{304}"),
    ]);
    assert_eq!(clean("①② ½ ℌ"), "①② ½ ℌ", "no NFKC elsewhere");
}

#[test]
fn quotes_become_straight() {
    all(&[("“a” ‘b’ „c‟ ‚d‛ ʼ «e» ′", "\"a\" 'b' \"c\" 'd' ' «e» ′")]);
}

#[test]
fn line_breaks_and_white_space_become_single_spaces() {
    all(&[
        ("a\r\nb\rc\u{85}d\u{2028}e\u{2029}f\n\n g", "a b c d e f g"),
        (" \t a\u{a0}\u{2003}b \u{3000}", "a b"),
        ("zero\u{200b}width", "zero\u{200b}width"),
        ("", ""),
        ("\u{feff}a\u{0}b\u{1b}c\u{7f}", "abc"),
        ("👨\u{200d}👩\u{200d}👧", "👨\u{200d}👩\u{200d}👧"),
    ]);
}

#[test]
fn accents_are_composed() {
    all(&[("cafe\u{301} A\u{30a}", "café Å"), ("\u{1112}\u{1161}\u{11ab}", "한")]);
}

#[test]
fn published_prompts_are_cleaned_as_published() {
    let differing: Vec<_> = published::rows()
        .into_iter()
        .filter(|row| clean(&row.prompt) != row.cleaned)
        .map(|row| (clean(&row.prompt), row.cleaned))
        .collect();
    // `’` in UTF-8, read as Windows-1252: ftfy repairs it, this does not.
    let mojibake = ("it's Marvelâ€™s best".to_owned(), "it's Marvel's best".to_owned());
    assert_eq!(differing, [mojibake]);
}
