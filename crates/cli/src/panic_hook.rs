//! What the program says of a panic.

use std::panic;

use wan_border::files::is_foreign_reader_at_work;

/// Says nothing of a panic that becomes an error: a foreign reader's, of a damaged file.
pub(super) fn install() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !is_foreign_reader_at_work() {
            before(panic);
        }
    }));
}
