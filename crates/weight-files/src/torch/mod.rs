//! Files of `torch.save`: `.pth`, `.pt`, `.ckpt`.
//!
//! A zip file with a pickle that describes the tensors, and the bytes of their storages. Nothing in
//! it is run: see [`pickle`].

mod archive;
mod entry;
mod gather;
mod pickle;
mod state_dict;
mod tensors;
#[cfg(test)]
mod testing;
mod zip;

use std::collections::BTreeMap;
use std::ops::Range;

use archive::Archive;
use pickle::Pickle;
use tensors::View;

use crate::container::{Container, Reader};
use crate::error::Result;
use crate::file_bytes::FileBytes;
use crate::tensor_info::TensorInfo;

/// How a zip file begins: a local header; the end of an empty directory.
const ZIP: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// How a file of torch before 1.6 begins: a pickle of a number, without a zip file around it.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/// Where a tar file says that it is one: what torch wrote before 0.1.10.
const TAR: (usize, &[u8]) = (257, b"ustar");

pub(crate) const READER: Reader = Reader { name: "torch", recognises, open };

struct Torch {
    archive: Archive,
    tensors: Vec<TensorInfo>,
    views: Vec<View>,
    metadata: BTreeMap<String, String>,
}

fn recognises(first: &[u8], _: u64) -> bool {
    ZIP.iter().any(|zip| first.starts_with(zip)) || is_legacy(first)
}

fn is_legacy(first: &[u8]) -> bool {
    first.starts_with(LEGACY) || first.get(TAR.0..).is_some_and(|name| name.starts_with(TAR.1))
}

fn open(file: &FileBytes) -> Result<Box<dyn Container>> {
    if is_legacy(&file.at_most(0, 512)?) {
        return Err(file.malformed(
            "a legacy torch file, from before the zip format of torch 1.6, which is not read: load \
             it in torch and save it again, torch.save(torch.load(FILE, weights_only=True), NEW)",
        ));
    }
    let mut archive = Archive::open(file)?;
    let (mut tensors, mut views) = (Vec::new(), Vec::new());
    let wrong = |reason: String| file.malformed(format!("data.pkl: {reason}"));
    let pickle = Pickle::read(&archive.pickle).map_err(wrong)?;
    for (name, tensor) in state_dict::tensors(&pickle).map_err(wrong)? {
        let (info, view) = tensors::check(&archive, &pickle, name, tensor).map_err(wrong)?;
        tensors.push(info);
        views.push(view);
    }
    drop(pickle);
    archive.forget_pickle();
    Ok(Box::new(Torch { archive, tensors, views, metadata: BTreeMap::new() }))
}

impl Container for Torch {
    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn read(&self, file: &FileBytes, number: usize, range: Range<u64>) -> Result<Vec<u8>> {
        let (info, view) = (&self.tensors[number], &self.views[number]);
        if range.start > range.end || range.end > info.bytes() {
            return Err(file.malformed(format!(
                "tensor {:?} has {} bytes, bytes {range:?} were asked for",
                info.name,
                info.bytes()
            )));
        }
        gather::read(file, self.archive.entry(view.storage), view, range)
    }
}

#[cfg(test)]
mod tests;
