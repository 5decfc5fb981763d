//! Damaged files from valid ones.

use crate::formats::{self, Format, Site};
use crate::seeds::Seed;
use wan_tests::dice::Dice;

/// Longest file that is made.
const BYTES_MAX: usize = 1 << 20;

/// A damaged file: `valid`, changed one to five times; `other` is another of its kind.
pub(crate) fn damaged(format: Format, valid: &Seed, other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let times = 1 + dice.below(5);
    // Those of the document come first: what is no JSON any more has none.
    let of_document = match &valid.document {
        Some(_) => (0..times).filter(|_| !dice.one_in(3)).count(),
        None => 0,
    };
    let mut bytes = match &valid.document {
        Some(document) if of_document > 0 => document.changed(of_document, dice),
        _ => valid.bytes.clone(),
    };
    bytes.truncate(BYTES_MAX);
    for _ in of_document..times {
        change(format, &mut bytes, other, dice);
        bytes.truncate(BYTES_MAX);
    }
    formats::repair(format, &mut bytes, dice);
    bytes
}

fn change(format: Format, bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    let place = dice.below(bytes.len() + 1);
    let longest = 1 << dice.below(12);
    let run = (1 + dice.below(longest)).min(bytes.len() - place);
    match dice.below(13) {
        0 | 1 => flip(bytes, dice),
        2..=5 => set_number(format, bytes, dice),
        6 => bytes.truncate(place),
        7 => drop(bytes.drain(place..place + run)),
        8 => {
            // Again, up to many times.
            let part = bytes[place..place + run].to_vec();
            let times = *dice.pick(&[1, 1, 2, 8, 64]);
            let again = part.repeat(times.min(BYTES_MAX / part.len().max(1)));
            bytes.splice(place..place, again);
        }
        9 => {
            let end = other.len();
            let from = dice.below(end + 1);
            let part = &other[from..(from + run.max(16)).min(end)];
            bytes.splice(place..place + run, part.iter().copied());
        }
        10 => {
            let noise: Vec<u8> = (0..run).map(|_| dice.byte()).collect();
            bytes.splice(place..place + run, noise);
        }
        11 => bytes[place..place + run].fill(*dice.pick(&[0, 0xff, b'0', b'9', b'"'])),
        _ => set_text_number(bytes, dice),
    }
}

fn flip(bytes: &mut [u8], dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let place = dice.below(bytes.len());
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 1 << dice.below(8);
        }
    }
}

/// Sets a length or count of the format, or four bytes anywhere, to the end of its range.
fn set_number(format: Format, bytes: &mut [u8], dice: &mut Dice) {
    let known = formats::sites(format, bytes);
    let anywhere = || Site { place: 0..0, big_endian: true };
    let mut site = if known.is_empty() { anywhere() } else { dice.pick(&known).clone() };
    if site.place.is_empty() || dice.one_in(4) {
        let width = *dice.pick(&[1, 2, 4, 8]);
        let start = dice.below(bytes.len().saturating_sub(width) + 1);
        site = Site { place: start..(start + width).min(bytes.len()), big_endian: dice.one_in(2) };
    }
    let width = site.place.len();
    let mut raw = [0; 8];
    raw[8 - width..].copy_from_slice(&bytes[site.place.clone()]);
    if !site.big_endian {
        raw[8 - width..].reverse();
    }
    let now = u64::from_be_bytes(raw);
    let most = u64::MAX >> (64 - 8 * width.max(1));
    let length = bytes.len() as u64;
    let numbers = [
        0,
        1,
        2,
        7,
        8,
        most,
        most - 1,
        most / 2,
        most / 2 + 1,
        now.wrapping_add(1),
        now.wrapping_sub(1),
        now.wrapping_mul(2),
        length,
        length - length.min(1),
        length * 4,
        1 << 16,
        1 << 24,
        1 << 31,
        dice.bits(),
    ];
    let mut raw = (*dice.pick(&numbers) & most).to_be_bytes();
    if !site.big_endian {
        raw[8 - width..].reverse();
    }
    bytes[site.place].copy_from_slice(&raw[8 - width..]);
}

/// Replaces a number that is written in digits.
fn set_text_number(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let is_start = |place: usize| {
        bytes[place].is_ascii_digit() && (place == 0 || !bytes[place - 1].is_ascii_digit())
    };
    let starts: Vec<usize> = (0..bytes.len()).filter(|place| is_start(*place)).collect();
    if starts.is_empty() {
        return;
    }
    let start = *dice.pick(&starts);
    let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let numbers = [
        "0",
        "1",
        "-1",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "99999999999999999999999999",
        "1e309",
        "1e-400",
        "nan",
        "inf",
        "0.1",
        "0x10",
        "1_000",
        "",
    ];
    bytes.splice(start..start + digits, dice.pick(&numbers).bytes());
}
