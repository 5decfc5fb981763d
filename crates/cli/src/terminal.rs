//! The one writer to the terminal. A reader that has gone, or a disk that is full, is no failure of
//! the work; and nothing that others named (tensors, words, files, plugins) gets control of the
//! terminal.

use std::borrow::Cow;
use std::io::{self, Write, stderr, stdout};

/// Prints a line of results.
macro_rules! say {
    ($($text:tt)*) => { $crate::terminal::result(&format!($($text)*)) };
}

/// Says a line about the work, beside the results.
macro_rules! note {
    ($($text:tt)*) => { $crate::terminal::aside(&format!("wan: {}", format_args!($($text)*))) };
}

/// A line, or several, on standard output.
pub(crate) fn result(text: &str) {
    let _ = writeln!(stdout(), "{}", without_controls(text));
}

/// A line on standard error.
pub(crate) fn aside(line: &str) {
    let _ = writeln!(stderr(), "{}", without_controls(line).replace('\n', " "));
}

/// Text without what moves the cursor, colours, answers, or turns the direction of writing; its line
/// ends and tabs stay.
pub(crate) fn without_controls(text: &str) -> Cow<'_, str> {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_one = |c: char| turns(c) || (c.is_control() && c != '\n' && c != '\t');
    if text.contains(is_one) { text.replace(is_one, "").into() } else { text.into() }
}

/// Standard error, for what libraries log.
#[derive(Clone, Copy)]
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = stderr().write_all(without_controls(&String::from_utf8_lossy(bytes)).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_named_does_not_control_the_terminal() {
        let name = "a\u{1b}[2Jb\u{7}\u{9b}31mc\td\n";
        assert_eq!(without_controls(name), "a[2Jb31mc\td\n");
        assert!(matches!(without_controls("tensor"), Cow::Borrowed(_)));
    }
}
