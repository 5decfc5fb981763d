//! What a file is that no reader recognises, by its first bytes, and what to do about it.
//!
//! Older formats of torch are not here: torch's reader recognises and refuses them.

#[cfg(test)]
mod tests;

use std::path::Path;

/// Longest text of a file that a message repeats, in characters.
const QUOTE_MAX: usize = 120;

/// What is read, for a file of which nothing is known.
const READ: &str = "safetensors, GGUF and files of torch.save are read";

/// What formats begin with: where, which bytes, what they are.
const KNOWN: &[(usize, &[u8], &str)] = &[
    (0, b"\x1f\x8b", "compressed with gzip: unpack it first (gunzip)"),
    (0, b"BZh", "compressed with bzip2: unpack it first (bunzip2)"),
    (0, b"\xfd7zXZ\0", "compressed with xz: unpack it first (unxz)"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with Zstandard: unpack it first (unzstd)"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
    (0, b"Rar!", "a RAR archive: unpack it first"),
    (0, b"\x80\x02", BARE_PICKLE),
    (0, b"\x80\x03", BARE_PICKLE),
    (0, b"\x80\x04", BARE_PICKLE),
    (0, b"\x80\x05", BARE_PICKLE),
    (0, b"tjgg", OLD_GGML),
    (0, b"fmgg", OLD_GGML),
    (0, b"lmgg", OLD_GGML),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (of Keras): take this model's safetensors file"),
    (0, b"\x93NUMPY", "an array of NumPy: take this model's safetensors file"),
    (0, b"\x89PNG", "a picture (PNG), no file of tensors"),
    (0, b"\xff\xd8\xff", "a picture (JPEG), no file of tensors"),
    (4, b"ftyp", "a video (MP4), no file of tensors"),
    (0, b"%PDF", "a document (PDF), no file of tensors"),
    (0, b"\x7fELF", "a program or library (ELF), no file of tensors"),
];

const BARE_PICKLE: &str = "a bare Python pickle, which can hold a program and is not read: take \
    this model's safetensors file";

const OLD_GGML: &str = "a ggml file from before GGUF (2023), which is not read: take a newer file \
    of this model";

/// Endings of names that programs give to unfinished downloads.
const UNFINISHED: [&str; 7] =
    ["part", "crdownload", "aria2", "incomplete", "partial", "download", "tmp"];

/// What a file of `length` bytes is that begins with `first`, and what to do.
pub(crate) fn what_it_is(first: &[u8], length: u64, path: &Path) -> String {
    if length == 0 {
        return "empty (0 bytes): download it again".to_owned();
    }
    if first.iter().all(|byte| *byte == 0) {
        return format!(
            "the first {} bytes are zeros: a download that has not finished; let it finish, or \
             download it again",
            first.len()
        );
    }
    let header = header_that_is_cut(first);
    let cut = |header: u64| {
        format!(
            "cut short or damaged: it begins as safetensors with a header of {header} bytes, the \
             file has {length} bytes in all; download it again"
        )
    };
    // Some lengths of headers begin as other formats do, but those have no four zeros there.
    if let Some(header) = header.filter(|header| *header <= u32::MAX.into()) {
        return cut(header);
    }
    let is_at = |start: usize, bytes: &[u8]| {
        first.get(start..).is_some_and(|first| first.starts_with(bytes))
    };
    if let Some((_, _, what)) = KNOWN.iter().find(|(start, bytes, _)| is_at(*start, bytes)) {
        return (*what).to_owned();
    }
    let is_whole = first.len() as u64 == length;
    if let Some(text) = text(first, is_whole) {
        return what_text(text);
    }
    if let Some(header) = header {
        return cut(header);
    }
    if path.extension().is_some_and(|end| UNFINISHED.iter().any(|unfinished| end == *unfinished)) {
        return "by its name a download that has not finished; let it finish, or download it again"
            .to_owned();
    }
    let bytes: Vec<String> = first.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!(
        "damaged, or of a format that is not read: the file has {length} bytes and begins with \
         {}; {READ}",
        bytes.join(" ")
    )
}

/// The bytes as text, if they are text for people.
fn text(first: &[u8], is_whole: bool) -> Option<&str> {
    let text = match str::from_utf8(first) {
        Ok(text) => text,
        // The last character may be cut where the first bytes end.
        Err(e) if !is_whole && e.error_len().is_none() => {
            str::from_utf8(first.get(..e.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_start();
    let is_printable = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    (!text.is_empty() && text.chars().all(is_printable)).then_some(text)
}

fn what_text(text: &str) -> String {
    if text.starts_with("version https://git-lfs") {
        let size = text.lines().find_map(|line| line.strip_prefix("size ")).map(str::trim);
        let is_number = |size: &&str| size.bytes().all(|byte| byte.is_ascii_digit());
        let size = size.filter(is_number).map_or("all".to_owned(), shortened);
        return format!(
            "a Git LFS pointer, {size} bytes missing: run `git lfs pull` in the cloned folder"
        );
    }
    let quote = shortened(text.lines().next().unwrap_or(text));
    if text.starts_with('<') {
        return format!(
            "a web page (HTML or XML) that begins with {quote:?}, no file of tensors: the link is \
             that of a page, has expired, or wants a login; download the file itself"
        );
    }
    let what = if text.starts_with(['{', '[']) { "text in JSON" } else { "text" };
    format!(
        "{what} that begins with {quote:?}, not a file of tensors: if it is the answer of a \
         server, download the file again"
    )
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTE_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Bytes of a header of safetensors, of which the file is too short: else a reader had it.
fn header_that_is_cut(first: &[u8]) -> Option<u64> {
    let header = first.first_chunk::<8>().map(|prefix| u64::from_le_bytes(*prefix))?;
    (first.get(8) == Some(&b'{')).then_some(header)
}
