//! Changes of torch's files: operations of the pickle, entries of the zip file. Both fit again, so
//! that a change reaches whoever carries the operations out.

use wan_tests::dice::Dice;

use crate::zip::{self, Entry};

/// Name of the entry with the pickle.
const PICKLE: &str = "data.pkl";

/// Longest pickle that is made.
const BYTES_MAX: usize = 1 << 19;

/// Operations of a pickle that is taken apart: what has more takes longer than its reader.
const OPERATIONS_MAX: usize = 20_000;

/// Operations that are put in.
const OPERATIONS: [&[u8]; 34] = [
    b"(",
    b")",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"R",
    b"Q",
    b"b",
    b"s",
    b"u",
    b"a",
    b"e",
    b"}",
    b"]",
    b"N",
    b"\x88",
    b"\x89",
    b".",
    b"0",
    b"2",
    b"1",
    b"h\x01",
    b"q\x01",
    b"j\xff\xff\xff\x7f",
    b"r\xff\xff\xff\xff",
    b"G\x7f\xf0\0\0\0\0\0\0",
    b"ccollections\nOrderedDict\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_tensor_v3\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch\nFloatStorage\n",
    b"cos\nsystem\n",
    b"\x8a\xff",
];

/// Numbers that take the place of others.
const NUMBERS: [i64; 16] = [
    0,
    1,
    -1,
    2,
    3,
    63,
    64,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    1 << 32,
    1 << 62,
    i64::MAX,
    i64::MIN,
    -(1 << 31),
    4096,
];

/// A file of `torch.save`, taken apart.
pub(crate) struct Torch {
    entries: Vec<Entry>,
    /// Place of the pickle among the entries.
    pickle: usize,
    /// Its operations.
    operations: Vec<Vec<u8>>,
}

impl Torch {
    /// None where its entries are compressed, or it is no such file.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let entries = zip::entries(bytes)?;
        let pickle = entries.iter().position(|entry| entry.name.ends_with(PICKLE))?;
        let operations = operations(&entries[pickle].bytes);
        let count = operations.len();
        (1..=OPERATIONS_MAX).contains(&count).then_some(Self { entries, pickle, operations })
    }

    /// The file, changed so many times.
    pub(crate) fn changed(&self, times: usize, dice: &mut Dice) -> Vec<u8> {
        let (mut entries, mut operations) = (self.entries.clone(), self.operations.clone());
        for _ in 0..times {
            if dice.one_in(8) {
                change_entry(&mut entries, dice);
            } else {
                change_operation(&mut operations, dice);
            }
        }
        let mut pickle = operations.concat();
        pickle.truncate(BYTES_MAX);
        if let Some(entry) = entries.get_mut(self.pickle) {
            entry.bytes = pickle;
        }
        zip::written(&entries)
    }
}

/// The operations of a pickle with what belongs to each; the last has all that is left.
fn operations(mut pickle: &[u8]) -> Vec<Vec<u8>> {
    let mut operations = Vec::new();
    while let Some((operation, rest)) = pickle.split_first() {
        let short = |from: usize| rest.get(from).map_or(0, |byte| usize::from(*byte));
        let argument = match operation {
            b'q' | b'h' | b'K' | 0x80 => 1,
            b'M' => 2,
            b'r' | b'j' | b'J' => 4,
            b'G' => 8,
            b'X' => 4 + short(0) + (short(1) << 8) + (short(2) << 16),
            0x8a => 1 + short(0),
            b'c' => {
                let ends = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
                ends.take(2).last().map_or(0, |(place, _)| place + 1)
            }
            _ => 0,
        };
        let length = (1 + argument).min(pickle.len());
        operations.push(pickle[..length].to_vec());
        pickle = &pickle[length..];
    }
    operations
}

fn change_operation(operations: &mut Vec<Vec<u8>>, dice: &mut Dice) {
    let (one, other) = (dice.below(operations.len()), dice.below(operations.len()));
    let Some(found) = operations.get(one).cloned() else { return };
    match dice.below(12) {
        0 => drop(operations.remove(one)),
        1 => operations[one] = operations[other].clone(),
        2 => operations.swap(one, other),
        3 => operations.insert(one, dice.pick(&OPERATIONS).to_vec()),
        4 => operations[one] = dice.pick(&OPERATIONS).to_vec(),
        5 => {
            // Again, up to very many times.
            let times = *dice.pick(&[1, 2, 64, 4000, 100_000]);
            let times = times.min(BYTES_MAX / found.len().max(1));
            operations[one] = found.repeat(times + 1);
        }
        6 => {
            let run = (1 + dice.below(24)).min(operations.len() - one);
            let part = operations[one..one + run].to_vec();
            let at = other.min(operations.len());
            operations.splice(at..at, part);
        }
        7 => operations.truncate(one),
        _ => change_number(operations, dice),
    }
}

/// Another number in the place of one, and another text in the place of a text.
fn change_number(operations: &mut [Vec<u8>], dice: &mut Dice) {
    let is_text = dice.one_in(3);
    let wanted = |operation: &&mut Vec<u8>| {
        let kinds: &[u8] = if is_text { b"Xc" } else { b"KMJ\x8ahjqr" };
        operation.first().is_some_and(|kind| kinds.contains(kind))
    };
    let count = operations.iter_mut().filter(wanted).count();
    let which = dice.below(count);
    let Some(operation) = operations.iter_mut().filter(wanted).nth(which) else { return };
    match operation.first() {
        Some(b'X') => {
            let mut text = operation.get(5..).unwrap_or_default().to_vec();
            match dice.below(5) {
                0 => text.clear(),
                1 => text.push(dice.byte()),
                2 => text = b"../0".to_vec(),
                3 => text = b"1".to_vec(),
                _ => text = text.repeat(1 << dice.below(8)),
            }
            let length = u32::try_from(text.len()).unwrap_or(0);
            let length = if dice.one_in(6) { u32::MAX } else { length };
            *operation = [b"X", &length.to_le_bytes()[..], &text].concat();
        }
        Some(b'c') => *operation = dice.pick(&OPERATIONS[27..33]).to_vec(),
        Some(b'q' | b'h') => operation[1] = dice.byte(),
        Some(b'r' | b'j') => operation[1..].fill(*dice.pick(&[0, 1, 0xff])),
        _ => {
            let number = *dice.pick(&NUMBERS);
            *operation = [b"\x8a\x08", &number.to_le_bytes()[..]].concat();
        }
    }
}

fn change_entry(entries: &mut Vec<Entry>, dice: &mut Dice) {
    let (one, other) = (dice.below(entries.len()), dice.below(entries.len()));
    let Some(found) = entries.get(one).cloned() else { return };
    match dice.below(7) {
        0 => entries[one].bytes.truncate(dice.below(found.bytes.len() + 1)),
        1 => entries[one].bytes.push(0),
        2 => entries[one].name = entries[other].name.clone(),
        3 => entries[one].name.push_str("/x"),
        4 => entries[one].bytes = entries[other].bytes.clone(),
        5 => entries.push(found),
        _ => entries.swap(one, other),
    }
}
