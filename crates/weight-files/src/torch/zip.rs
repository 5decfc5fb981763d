//! The directory of a zip file, held to more than the format asks.
//!
//! `rawzip` finds the directory and reads its records; it leaves names that occur twice, entries
//! that overlap, and local headers that say something else to its callers. Those are refused here:
//! what two readers would read differently is no weight file.

use std::collections::HashSet;
use std::io;

use rawzip::{CompressionMethod, ReaderAt, ZipArchive, ZipFileHeaderRecord};

use crate::error::{Error, Result};
use crate::file_bytes::FileBytes;
use crate::torch::entry::{Entry, Packing};

/// What messages call the foreign reader.
const READER: &str = "zip reader";

/// Most entries of a file. A 14B model has 1,100.
const ENTRIES_MAX: u64 = 100_000;

/// Longest directory, in bytes.
const DIRECTORY_MAX: u64 = 32 << 20;

/// Longest name of an entry, in bytes: a root folder and `data/` with a number.
const NAME_MAX: usize = 512;

/// How far from its end a file is searched for its directory, in bytes: the longest comment.
const SEARCH_MAX: u64 = (1 << 16) + 22;

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 17;

/// All entries may together unpack to so many times the file's bytes, and to [`SMALL`] more.
/// Weights shrink by a tenth or two; the format itself allows a thousandfold.
const GROWTH_MAX: u64 = 16;
const SMALL: u64 = 64 << 20;

/// An open file for `rawzip`.
struct Bytes<'a>(&'a FileBytes);

impl ReaderAt for Bytes<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.at_most(offset, buffer.len() as u64).map_err(|error| match error {
            Error::Io { source, .. } => source,
            other => io::Error::other(other.to_string()),
        })?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

/// Where an entry lies with its local header.
struct Place {
    header: u64,
    end: u64,
}

/// Reads the directory of `file`, and the local header of every entry.
///
/// # Errors
/// [`Error::Malformed`] if there is none, or it does not agree with itself or with the file.
pub(super) fn read(file: &FileBytes) -> Result<Vec<Entry>> {
    walled(file, || {
        let mut buffer = vec![0; BUFFER];
        let located = ZipArchive::with_max_search_space(SEARCH_MAX)
            .locate_in_reader(Bytes(file), &mut buffer, file.length())
            .map_err(|(_, error)| {
                file.malformed(format!(
                    "a zip file that is cut short, or has no directory at its end ({error})"
                ))
            })?;
        let bytes = located.directory_offset()..file.length();
        let count = located.entries_hint();
        let length = bytes.end.checked_sub(bytes.start);
        if count > ENTRIES_MAX || length.is_none_or(|length| length > DIRECTORY_MAX) {
            return Err(file.malformed(format!(
                "the zip directory has {count} entries and begins at byte {} of {}; at most \
                 {ENTRIES_MAX} entries in {DIRECTORY_MAX} bytes are read",
                bytes.start, bytes.end
            )));
        }
        entries(file, &located, &mut buffer)
    })
}

/// Runs the foreign reader.
fn walled<T>(file: &FileBytes, read: impl FnOnce() -> Result<T>) -> Result<T> {
    wan_border::files::foreign(file.path(), READER, read)?
}

fn entries(
    file: &FileBytes,
    archive: &ZipArchive<Bytes<'_>>,
    buffer: &mut [u8],
) -> Result<Vec<Entry>> {
    let wrong = |error: rawzip::Error| file.malformed(format!("the zip directory: {error}"));
    let (mut entries, mut places) = (Vec::new(), Vec::new());
    let mut names = HashSet::new();
    let mut unpacked = 0_u64;
    let mut scratch = vec![0; BUFFER];
    let mut records = archive.entries(buffer);
    while let Some(record) = records.next_entry().map_err(wrong)? {
        if entries.len() as u64 >= archive.entries_hint() {
            return Err(file.malformed("the zip directory has more entries than it counts"));
        }
        let (entry, place) = entry(file, archive, &record, &mut scratch)?;
        if !names.insert(entry.name.clone()) {
            return Err(file.malformed(format!("the zip entry {:?} is there twice", entry.name)));
        }
        unpacked = unpacked.saturating_add(entry.length);
        entries.push(entry);
        places.push(place);
    }
    if entries.len() as u64 != archive.entries_hint() {
        return Err(file.malformed(format!(
            "the zip directory counts {} entries and has {}",
            archive.entries_hint(),
            entries.len()
        )));
    }
    let most = file.length().saturating_mul(GROWTH_MAX).saturating_add(SMALL);
    if unpacked > most {
        return Err(file.malformed(format!(
            "its compressed entries unpack to {unpacked} bytes, more than {GROWTH_MAX} times the \
             file's {}: no weights do",
            file.length()
        )));
    }
    check_places(file, places, archive.directory_offset())?;
    Ok(entries)
}

fn entry(
    file: &FileBytes,
    archive: &ZipArchive<Bytes<'_>>,
    record: &ZipFileHeaderRecord<'_>,
    scratch: &mut [u8],
) -> Result<(Entry, Place)> {
    let name = record.file_path();
    let name = std::str::from_utf8(name.as_bytes())
        .ok()
        .filter(|name| name.len() <= NAME_MAX)
        .ok_or_else(|| file.malformed("a zip entry has a name that is too long or no UTF-8"))?
        .to_owned();
    let refuse = |reason: &str| Err(file.malformed(format!("the zip entry {name:?} {reason}")));
    let flags = record.flags();
    if flags.is_encrypted() || flags.has_strong_encryption() || flags.is_masked() {
        return refuse("is encrypted");
    }
    let packing = match record.compression_method() {
        CompressionMethod::STORE => Packing::Stored,
        CompressionMethod::DEFLATE => Packing::Deflated,
        other => {
            return refuse(&format!(
                "is compressed by method {}; stored or deflated ones are read",
                other.as_u16()
            ));
        }
    };
    let length = record.uncompressed_size_hint();
    if packing == Packing::Stored && length != record.compressed_size_hint() {
        return refuse("is stored, with two lengths");
    }
    let Ok(found) = archive.get_entry(record.wayfinder()) else {
        return refuse("has no local header where the directory says");
    };
    let Ok(local) = found.local_header(scratch) else {
        return refuse("has a local header that cannot be read");
    };
    // Whoever wrote the header before the bytes left the lengths out of it.
    let later = flags.has_data_descriptor();
    let agrees = |here: u64, there: u64| here == there || (later && here == 0);
    if local.file_path().as_bytes() != name.as_bytes()
        || local.flags().bits() != flags.bits()
        || local.compression_method() != record.compression_method()
        || !agrees(local.compressed_size_hint(), record.compressed_size_hint())
        || !agrees(local.uncompressed_size_hint(), length)
        || !agrees(u64::from(local.crc32()), u64::from(record.crc32()))
    {
        return refuse("has a local header that says something else than the directory");
    }
    let (start, end) = found.compressed_data_range();
    let place = Place { header: record.local_header_offset(), end };
    Ok((Entry { name, packing, packed: start..end, length }, place))
}

/// Checks that no two entries share a byte, and none with the directory.
fn check_places(file: &FileBytes, mut places: Vec<Place>, directory: u64) -> Result<()> {
    places.sort_unstable_by_key(|place| place.header);
    let nexts = places.iter().skip(1).map(|place| place.header).chain([directory]);
    for (place, next) in places.iter().zip(nexts) {
        if place.end > next {
            return Err(file.malformed(format!(
                "cut short, or its zip entries overlap: one ends at byte {}, the next begins at \
                 byte {next}",
                place.end
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
