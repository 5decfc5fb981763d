//! What comes from a child in pieces, as the terminal may have it.

use crate::terminal::without_controls;

/// Takes control characters out of text that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    /// The beginning of a character whose end is not there yet.
    begun: Vec<u8>,
}

impl Cleaner {
    /// The next piece, without what could change the terminal.
    pub(super) fn clean(&mut self, piece: &[u8]) -> String {
        self.begun.extend_from_slice(piece);
        let complete = complete(&self.begun);
        let text = String::from_utf8_lossy(&self.begun[..complete]).into_owned();
        self.begun.drain(..complete);
        without_controls(&text).into_owned()
    }
}

/// Bytes up to a character that is cut off at the end.
fn complete(bytes: &[u8]) -> usize {
    let mut from = 0;
    loop {
        match std::str::from_utf8(&bytes[from..]) {
            Ok(_) => return bytes.len(),
            Err(error) => match error.error_len() {
                Some(wrong) => from += error.valid_up_to() + wrong,
                None => return from + error.valid_up_to(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_left_out_and_text_is_not() {
        let clean = |pieces: &[&[u8]]| {
            let mut cleaner = Cleaner::default();
            pieces.iter().map(|piece| cleaner.clean(piece)).collect::<String>()
        };
        assert_eq!(clean(&[b"a\x1b[2J\x1b]0;owned\x07\tb\r\n"]), "a[2J]0;owned\tb\n");
        assert_eq!(clean(&["ein Bär\n".as_bytes()]), "ein Bär\n");
        let bytes = "漢字".as_bytes();
        assert_eq!(clean(&[&bytes[..1], &bytes[1..4], &bytes[4..]]), "漢字");
        assert_eq!(clean(&[b"\xff\xc2", b"\x9b31m", b"\xe2\x80\xae"]), "\u{fffd}31m");
    }
}
