//! What lies where in a zip file of `torch.save`: `ROOT/data.pkl`, `ROOT/byteorder`, and one entry
//! `ROOT/data/KEY` for each storage.
//!
//! Layout: torch 2.15, `torch/serialization.py` (`_save`) and
//! `caffe2/serialize/inline_container.cc`.

use std::collections::HashMap;

use crate::error::Result;
use crate::file_bytes::FileBytes;
use crate::torch::entry::Entry;
use crate::torch::zip;

/// Longest `data.pkl`, unpacked, in bytes. A 14B model's has 200 kB.
const PICKLE_MAX: u64 = 64 << 20;

/// Longest `byteorder`, in bytes.
const BYTE_ORDER_MAX: u64 = 16;

/// A zip file of `torch.save`.
pub(super) struct Archive {
    /// The entries of its storages.
    entries: Vec<Entry>,
    /// Where in `entries`, by key.
    by_key: HashMap<String, usize>,
    /// What describes the tensors.
    pub(super) pickle: Vec<u8>,
}

impl Archive {
    /// Reads the directory and `data.pkl`.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::Error::Malformed) if the file is another zip file, a program of
    /// TorchScript, of another byte order, or a zip that two readers would read differently.
    pub(super) fn open(file: &FileBytes) -> Result<Self> {
        let listed = zip::read(file)?;
        let root = root(file, &listed)?;
        let (mut pickle, mut entries) = (None, Vec::new());
        let mut by_key = HashMap::new();
        for entry in listed {
            let Some(name) = entry.name.strip_prefix(&root) else { continue };
            if name == "constants.pkl" || name.starts_with("code/") {
                return Err(file.malformed(
                    "a program of TorchScript, which is not run: save the tensors alone, \
                     torch.save(torch.jit.load(FILE).state_dict(), NEW)",
                ));
            }
            match name {
                "data.pkl" => pickle = Some(entry),
                "byteorder" => check_byte_order(file, &entry)?,
                _ => {
                    if let Some(key) = name.strip_prefix("data/").filter(|key| is_key(key)) {
                        by_key.insert(key.to_owned(), entries.len());
                        entries.push(entry);
                    }
                }
            }
        }
        let Some(pickle) = pickle else {
            return Err(file.malformed("a zip file without data.pkl: torch.save did not write it"));
        };
        if pickle.length > PICKLE_MAX {
            return Err(file.malformed(format!(
                "data.pkl has {} bytes, at most {PICKLE_MAX} are read",
                pickle.length
            )));
        }
        let pickle = pickle.read(file, 0..pickle.length)?;
        Ok(Self { entries, by_key, pickle })
    }

    /// Number of the storage with a key.
    pub(super) fn storage(&self, key: &str) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// The entry of storage `number`.
    pub(super) fn entry(&self, number: usize) -> &Entry {
        &self.entries[number]
    }

    /// Lets go of what describes the tensors.
    pub(super) fn forget_pickle(&mut self) {
        self.pickle = Vec::new();
    }
}

/// Whether a storage may have that key: a number.
pub(super) fn is_key(key: &str) -> bool {
    (1..=20).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_digit())
}

/// The folder that everything lies in, with its `/`.
fn root(file: &FileBytes, entries: &[Entry]) -> Result<String> {
    let first = entries.first().map_or("", |entry| entry.name.as_str());
    let root = first.find('/').map_or("", |end| &first[..=end]);
    let mut pickles = entries.iter().filter(|e| e.name.rsplit('/').next() == Some("data.pkl"));
    if pickles.clone().next().is_none() {
        return Err(file.malformed(
            "a zip file without data.pkl: torch.save did not write it; if weights lie in it, \
             unpack it",
        ));
    }
    let other = entries.iter().find(|entry| root.len() < 2 || !entry.name.starts_with(root));
    if let Some(other) = other {
        return Err(file.malformed(format!(
            "a zip file with {:?} beside the folder {root:?}; torch.save writes one folder",
            other.name
        )));
    }
    if let (Some(one), Some(two)) = (pickles.next(), pickles.next()) {
        return Err(file.malformed(format!(
            "{:?} and {:?} in one zip file; torch.save writes one data.pkl",
            one.name, two.name
        )));
    }
    Ok(root.to_owned())
}

fn check_byte_order(file: &FileBytes, entry: &Entry) -> Result<()> {
    let order = entry.read(file, 0..entry.length.min(BYTE_ORDER_MAX))?;
    if order == b"little" {
        return Ok(());
    }
    Err(file.malformed(format!(
        "its numbers are in byte order {:?}, \"little\" is read: save it again on a machine of \
         that order",
        String::from_utf8_lossy(&order)
    )))
}
