//! A prompt as the published pipelines give it to the tokenizer.
//!
//! Wan's own code and diffusers run `ftfy.fix_text`, then `html.unescape` twice, then make single
//! spaces of white space (diffusers 0.42.1, `pipelines/wan/pipeline_wan.py`, `prompt_clean`). Wan's
//! Chinese negative prompt has full-width commas: they are other tokens without this.
//!
//! Of `ftfy` 6.3.1 (`ftfy/fixes.py`, `ftfy/chardata.py`) these are here, in its order: HTML
//! entities, ligatures, character width, quotes, line breaks, control characters, NFC. Its repair of
//! text that was decoded in a wrong encoding (mojibake: `â€™` for `’`) is not, nor what it does to
//! terminal escapes and to characters that no text has.

mod entities;

use unicode_normalization::UnicodeNormalization;

/// The prompt as the tokenizer reads it.
///
/// In this order:
/// 1. HTML entities that end in `;`, if there is no `<` (`unescape_html` with "auto");
/// 2. ligatures to letters (`fix_latin_ligatures`);
/// 3. full-width characters to normal ones, half-width ones too, by NFKC; U+3000 to a space
///    (`fix_character_width`);
/// 4. curly quotes to straight ones (`uncurl_quotes`);
/// 5. line breaks to line feeds (`fix_line_breaks`), and no control characters that show nothing
///    (`remove_control_chars`);
/// 6. NFC;
/// 7. `html.unescape`, twice;
/// 8. white space to single spaces, none at the ends.
pub fn clean(prompt: &str) -> String {
    let unescaped =
        if prompt.contains('<') { prompt.to_owned() } else { entities::unescape_whole(prompt) };
    let composed: String = unescaped
        .chars()
        .flat_map(letters)
        .flat_map(of_normal_width)
        .map(straight_quote)
        .filter_map(without_controls)
        .nfc()
        .collect();
    let plain = entities::unescape(&entities::unescape(&composed));
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Rule 2. `ftfy.chardata.LIGATURES`: NFKC of each, except that ŉ keeps its apostrophe (for rule 4)
/// and ſt its long s.
fn letters(character: char) -> impl Iterator<Item = char> {
    let letters = match character {
        'ŉ' => "ʼn",
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => "",
    };
    letters.chars().chain(letters.is_empty().then_some(character))
}

/// Rule 3. `ftfy.chardata.WIDTH_MAP`: the block of half- and full-width forms (U+FF01 on), each
/// alone, so that a half-width voiced mark is left for rule 6 to compose.
fn of_normal_width(character: char) -> impl Iterator<Item = char> {
    let wide = matches!(character, '\u{ff01}'..='\u{ffef}');
    let normal = match character {
        '\u{3000}' => Some(' '),
        _ if wide => None,
        _ => Some(character),
    };
    wide.then(|| std::iter::once(character).nfkc()).into_iter().flatten().chain(normal)
}

/// Rule 4. `ftfy.chardata.SINGLE_QUOTE_RE`, `DOUBLE_QUOTE_RE`.
const fn straight_quote(character: char) -> char {
    match character {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        _ => character,
    }
}

/// Rule 5. CR LF becomes two line feeds; rule 8 makes one space of both.
const fn without_controls(character: char) -> Option<char> {
    match character {
        '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => Some('\n'),
        '\0'..='\u{8}'
        | '\u{b}'
        | '\u{e}'..='\u{1f}'
        | '\u{7f}'
        | '\u{206a}'..='\u{206f}'
        | '\u{fff9}'..='\u{fffc}'
        | '\u{feff}' => None,
        _ => Some(character),
    }
}

#[cfg(test)]
mod tests;
