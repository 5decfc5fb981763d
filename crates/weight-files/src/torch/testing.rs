//! Small files of `torch.save` for tests, good ones and others.

use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::{Result, WeightFile};

/// A file in a folder that is removed when this is dropped.
pub(super) struct Saved {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Saved {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wan.pth");
        std::fs::write(&path, bytes).unwrap();
        Self { _folder: folder, path }
    }

    pub(super) fn open(&self) -> Result<WeightFile> {
        WeightFile::open(&self.path)
    }
}

/// What is said of a file that is refused.
pub(super) fn refusal(bytes: &[u8]) -> String {
    Saved::new(bytes).open().err().unwrap().to_string()
}

/// An entry of a zip file as it is written, right or wrong.
#[derive(Clone)]
pub(super) struct ZipEntry {
    pub(super) name: String,
    pub(super) packed: Vec<u8>,
    pub(super) length: u32,
    pub(super) method: u16,
    pub(super) flags: u16,
    /// Name in the local header.
    pub(super) local_name: String,
    /// Whether the local header leaves the lengths to a descriptor after the bytes.
    pub(super) later: bool,
    /// Whether the numbers of both headers are in an extra field, as those above 4 GB are (zip64).
    pub(super) wide: bool,
}

impl ZipEntry {
    pub(super) fn stored(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            packed: bytes.to_vec(),
            length: u32::try_from(bytes.len()).unwrap(),
            method: 0,
            flags: 0,
            local_name: name.to_owned(),
            later: false,
            wide: false,
        }
    }

    pub(super) fn deflated(name: &str, bytes: &[u8]) -> Self {
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
        packed.write_all(bytes).unwrap();
        Self { packed: packed.finish().unwrap(), method: 8, ..Self::stored(name, bytes) }
    }

    /// What both headers share, from the version on.
    fn fields(&self, local: bool) -> Vec<u8> {
        let mut fields = Vec::new();
        for number in [20, self.flags | if self.later { 8 } else { 0 }, self.method, 0, 0] {
            fields.extend(number.to_le_bytes());
        }
        let (packed, length) = (u32::try_from(self.packed.len()).unwrap(), self.length);
        let numbers = if local && self.later { [0; 3] } else { [0, packed, length] };
        let numbers = if self.wide { [0, u32::MAX, u32::MAX] } else { numbers };
        fields.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        let name = if local { &self.local_name } else { &self.name };
        fields.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        let extra = if self.wide { self.extra(None).len() + if local { 0 } else { 8 } } else { 0 };
        fields.extend(u16::try_from(extra).unwrap().to_le_bytes());
        fields
    }

    /// The extra field of zip64; in the directory with the place of the local header.
    fn extra(&self, place: Option<u32>) -> Vec<u8> {
        if !self.wide {
            return Vec::new();
        }
        let packed = u32::try_from(self.packed.len()).unwrap();
        let numbers: Vec<u32> = [self.length, packed].into_iter().chain(place).collect();
        let length = u16::try_from(8 * numbers.len()).unwrap();
        let mut extra = [1, 0].to_vec();
        extra.extend(length.to_le_bytes());
        extra.extend(numbers.iter().flat_map(|number| u64::from(*number).to_le_bytes()));
        extra
    }
}

/// A zip file.
pub(super) fn zip(entries: &[ZipEntry]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let start = u32::try_from(bytes.len()).unwrap();
        bytes.extend(b"PK\x03\x04");
        bytes.extend(entry.fields(true));
        bytes.extend(entry.local_name.as_bytes());
        bytes.extend(entry.extra(None));
        bytes.extend(&entry.packed);
        if entry.later {
            let packed = u32::try_from(entry.packed.len()).unwrap();
            bytes.extend(b"PK\x07\x08\0\0\0\0");
            bytes.extend([packed, entry.length].iter().flat_map(|number| number.to_le_bytes()));
        }
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(entry.fields(false));
        directory.extend([0; 10]);
        directory.extend(if entry.wide { u32::MAX } else { start }.to_le_bytes());
        directory.extend(entry.name.as_bytes());
        directory.extend(entry.extra(Some(start)));
    }
    let start = u32::try_from(bytes.len()).unwrap();
    let length = u32::try_from(directory.len()).unwrap();
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count);
    bytes.extend(count);
    bytes.extend(length.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// A file with that pickle, and storage 0 of 64 bytes: the numbers 0 to 15 as f32.
pub(super) fn file(pickle: &[u8]) -> Vec<u8> {
    zip(&entries(pickle))
}

pub(super) fn entries(pickle: &[u8]) -> Vec<ZipEntry> {
    vec![
        ZipEntry::stored("archive/data.pkl", pickle),
        ZipEntry::stored("archive/byteorder", b"little"),
        ZipEntry::stored("archive/data/0", &numbers(16)),
        ZipEntry::stored("archive/version", b"3\n"),
    ]
}

/// The numbers from 0 on, as f32.
pub(super) fn numbers(count: u8) -> Vec<u8> {
    (0..count).flat_map(|number| f32::from(number).to_le_bytes()).collect()
}

/// A whole pickle of one value.
pub(super) fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}

pub(super) fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    [b"X", length.as_slice(), text.as_bytes()].concat()
}

pub(super) fn integer(number: i64) -> Vec<u8> {
    [b"\x8a\x08", number.to_le_bytes().as_slice()].concat()
}

pub(super) fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", items.concat().as_slice(), b"t"].concat()
}

pub(super) fn integers(numbers: &[i64]) -> Vec<u8> {
    tuple(&numbers.iter().map(|number| integer(*number)).collect::<Vec<_>>())
}

pub(super) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

pub(super) fn call(callee: &[u8], arguments: &[u8]) -> Vec<u8> {
    [callee, arguments, b"R"].concat()
}

pub(super) fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<_> =
        entries.iter().map(|(key, value)| [text(key), value.clone()].concat()).collect();
    let new = call(&global("collections", "OrderedDict"), b")");
    [new.as_slice(), b"(", entries.concat().as_slice(), b"u"].concat()
}

pub(super) fn storage(kind: &[u8], key: &str, elements: i64) -> Vec<u8> {
    let id = [text("storage"), kind.to_vec(), text(key), text("cpu"), integer(elements)];
    [tuple(&id).as_slice(), b"Q"].concat()
}

/// A tensor of f32 in storage 0.
pub(super) fn tensor(offset: i64, sizes: &[i64], strides: &[i64]) -> Vec<u8> {
    let storage = storage(&global("torch", "FloatStorage"), "0", 16);
    tensor_in(storage, offset, sizes, strides)
}

pub(super) fn tensor_in(storage: Vec<u8>, offset: i64, sizes: &[i64], strides: &[i64]) -> Vec<u8> {
    let arguments = [
        storage,
        integer(offset),
        integers(sizes),
        integers(strides),
        b"\x89".to_vec(),
        call(&global("collections", "OrderedDict"), b")"),
    ];
    call(&global("torch._utils", "_rebuild_tensor_v2"), &tuple(&arguments))
}

/// A tensor of 8-bit floats, or of another format that has no storage of its own.
pub(super) fn tensor_of_bytes(storage: Vec<u8>, format: &str, sizes: &[i64]) -> Vec<u8> {
    let strides: Vec<i64> =
        (0..sizes.len()).map(|axis| sizes[axis + 1..].iter().product()).collect();
    let arguments = [
        storage,
        integer(0),
        integers(sizes),
        integers(&strides),
        b"\x89".to_vec(),
        call(&global("collections", "OrderedDict"), b")"),
        global("torch", format),
    ];
    call(&global("torch._utils", "_rebuild_tensor_v3"), &tuple(&arguments))
}
