//! Whether a JPEG picture is all there. Its decoder gives what there is, and grey for the rest.

const START: u8 = 0xd8;
const END: u8 = 0xd9;

/// Whether these bytes begin a JPEG picture and end before its end does. Markers (`ff` and a
/// number) begin segments, which say their length (ITU-T T.81, annex B); pixels follow some of
/// them, in which `ff` stands before 0 or before the number of a restart.
pub(crate) fn is_cut_short(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.strip_prefix(&[0xff, START]) else { return false };
    loop {
        let Some(place) = rest.iter().position(|byte| *byte == 0xff) else { return true };
        rest = &rest[place + 1..];
        match rest {
            [] => return true,
            [END, ..] => return false,
            [0x00 | 0x01 | 0xd0..=0xd8 | 0xff, ..] => {}
            [_, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let Some(after) = rest.get(1 + length..) else { return true };
                rest = after;
            }
            _ => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_jpeg_without_its_end_is_cut_short() {
        // A segment that holds an end of its own, pixels with a stuffed byte and a restart.
        let whole =
            b"\xff\xd8\xff\xe1\x00\x04\xff\xd9\xff\xda\x00\x02ab\xff\x00c\xff\xd0d\xff\xff\xd9";
        assert!(!is_cut_short(whole));
        for kept in 2..whole.len() {
            assert!(is_cut_short(&whole[..kept]), "{kept}");
        }
        assert!(!is_cut_short(b"\x89PNG") && !is_cut_short(b""));
    }
}
