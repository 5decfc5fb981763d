//! Zip files of stored entries, as torch writes them.

/// An entry.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// Bytes of an entry's record in the directory, without its name.
const RECORD: usize = 46;

/// The entries of a zip file; none where one is compressed, or there is no directory.
pub(crate) fn entries(bytes: &[u8]) -> Option<Vec<Entry>> {
    let end = bytes.windows(4).rposition(|window| window == b"PK\x05\x06")?;
    let count = short(bytes, end + 10)?;
    let mut at = long(bytes, end + 16)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let is_stored = short(bytes, at + 10)? == 0;
        let (length, local) = (long(bytes, at + 20)?, long(bytes, at + 42)?);
        let [name, extra, comment] =
            [short(bytes, at + 28)?, short(bytes, at + 30)?, short(bytes, at + 32)?];
        let text = bytes.get(at + RECORD..at + RECORD + name)?;
        let start = local + 30 + short(bytes, local + 26)? + short(bytes, local + 28)?;
        let stored = bytes.get(start..start.checked_add(length)?).filter(|_| is_stored)?;
        let name_text = String::from_utf8(text.to_vec()).ok()?;
        entries.push(Entry { name: name_text, bytes: stored.to_vec() });
        at += RECORD + name + extra + comment;
    }
    Some(entries)
}

/// A zip file of these entries.
pub(crate) fn written(entries: &[Entry]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for Entry { name, bytes: stored } in entries {
        let start = number(bytes.len());
        let mut fields = [20u16, 0, 0, 0, 0].map(u16::to_le_bytes).concat();
        // No reader of weights takes the time to check the sum.
        fields.extend([[0; 4], number(stored.len()), number(stored.len())].concat());
        fields.extend([&number(name.len())[..2], &[0; 2]].concat());
        bytes.extend([b"PK\x03\x04", fields.as_slice(), name.as_bytes(), stored].concat());
        directory.extend([b"PK\x01\x02\x14\0", fields.as_slice(), &[0; 10], &start].concat());
        directory.extend(name.as_bytes());
    }
    let [start, length, count] = [bytes.len(), directory.len(), entries.len()].map(number);
    bytes.extend(directory);
    bytes.extend([b"PK\x05\x06\0\0\0\0", &count[..2], &count[..2]].concat());
    bytes.extend([&length[..], &start, &[0; 2]].concat());
    bytes
}

fn number(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes()
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    let found = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_le_bytes(*found).into())
}

fn long(bytes: &[u8], at: usize) -> Option<usize> {
    let found = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_le_bytes(*found)).ok()
}
