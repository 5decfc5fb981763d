//! The C manifest: what the host reads before any code of a plugin runs.
//!
//! It is plain C, so that any compiler can write it and any later host can read it. A library that
//! is not a plugin, or is one of an unknown epoch, is refused in one line.
//!
//! ```c
//! struct wan_plugin_manifest {
//!     char     magic[8];      // "WANPLUG" and a zero
//!     uint32_t size;          // sizeof(struct wan_plugin_manifest): a later one may be longer
//!     uint32_t epoch;         // interface epoch that the library was built for
//!     uint32_t flavour;       // 1: Rust through abi_stable; 2: C; 3: both
//!     uint32_t unwinds;       // 1: panics unwind and can be caught; 0: they abort the process
//!     const char *name, *version, *licence, *built_with;   // zero-terminated, static
//! };
//! extern const struct wan_plugin_manifest WAN_PLUGIN_MANIFEST;
//! ```
#![allow(unsafe_code, reason = "reads C strings that a foreign library points to")]

use std::ffi::{CStr, c_char};

/// Name of the exported symbol.
pub const SYMBOL: &str = "WAN_PLUGIN_MANIFEST";

/// First eight bytes of every manifest.
pub const MAGIC: [u8; 8] = *b"WANPLUG\0";

/// The epoch for which this crate builds plugins; see `library` and ARCHITECTURE.md.
pub const CURRENT_EPOCH: u32 = crate::epoch1::NUMBER;

/// Bit of `flavour` for the tables of abi_stable ([`epoch1`](crate::epoch1)).
pub const FLAVOUR_RUST: u32 = 1;

/// Bit of `flavour` for the tables in C ([`c`](crate::c)).
pub const FLAVOUR_C: u32 = 2;

/// The manifest in the memory of a library.
#[derive(Debug)]
#[repr(C)]
pub struct RawManifest {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Bytes of this struct in the library.
    pub size: u32,
    /// Interface epoch.
    pub epoch: u32,
    /// [`FLAVOUR_RUST`], [`FLAVOUR_C`] or both.
    pub flavour: u32,
    /// 1 where panics unwind.
    pub unwinds: u32,
    name: *const c_char,
    version: *const c_char,
    licence: *const c_char,
    built_with: *const c_char,
}

#[allow(clippy::cast_possible_truncation, reason = "a few dozen bytes")]
/// Bytes of the struct.
const SIZE: u32 = size_of::<RawManifest>() as u32;

/// Bytes of magic and size, the first members.
const FIRST_MEMBERS: usize = std::mem::offset_of!(RawManifest, epoch);

/// Longest text of a manifest.
const TEXT_MAX: usize = 4096;

/// The manifest, for the test that compares it with the header.
#[cfg(test)]
pub(crate) fn layout() -> crate::c::tables::Layout {
    macro_rules! members {
        ($($member:ident: $type:ty,)*) => {{
            // The types are those of the struct.
            $(let _: fn(&RawManifest) -> &$type = |manifest| &manifest.$member;)*
            vec![$((
                stringify!($member),
                std::mem::offset_of!(RawManifest, $member),
                stringify!($type),
            ),)*]
        }};
    }
    let members = members! {
        magic: [u8; 8],
        size: u32,
        epoch: u32,
        flavour: u32,
        unwinds: u32,
        name: *const c_char,
        version: *const c_char,
        licence: *const c_char,
        built_with: *const c_char,
    };
    let size = size_of::<RawManifest>();
    crate::c::tables::Layout { name: "RawManifest", c: "wan_manifest", size, members }
}

// SAFETY: the pointers are to static, constant strings.
unsafe impl Sync for RawManifest {}

impl RawManifest {
    /// The manifest of a Rust plugin with tables of these flavours. Used by
    /// [`export_plugin!`](crate::export_plugin).
    pub const fn rust(
        flavour: u32,
        name: &'static CStr,
        version: &'static CStr,
        licence: &'static CStr,
        built_with: &'static CStr,
    ) -> Self {
        Self {
            magic: MAGIC,
            size: SIZE,
            epoch: CURRENT_EPOCH,
            flavour,
            unwinds: cfg!(panic = "unwind") as u32,
            name: name.as_ptr(),
            version: version.as_ptr(),
            licence: licence.as_ptr(),
            built_with: built_with.as_ptr(),
        }
    }

    /// A copy with owned strings. `bytes_at` tells how many bytes of the library can be read from an
    /// address on: nothing else is read. `None` if magic or size are not those of a manifest, or
    /// what it points to is not the library's own.
    ///
    /// # Safety
    /// What `bytes_at` tells is true, for as long as this takes.
    pub unsafe fn read(
        raw: *const Self,
        bytes_at: &dyn Fn(*const u8) -> usize,
    ) -> Option<Manifest> {
        let has = bytes_at(raw.cast());
        if raw.is_null() || !raw.is_aligned() || has < FIRST_MEMBERS {
            return None;
        }
        // SAFETY: magic and size are the first members of every manifest, however long it is, and
        // these bytes are there; no more of it is looked at here.
        let (magic, size) =
            unsafe { ((&raw const (*raw).magic).read(), (&raw const (*raw).size).read()) };
        if magic != MAGIC || (size as usize) < size_of::<Self>() || has < size as usize {
            return None;
        }
        // SAFETY: these bytes are there.
        let whole = unsafe { &*raw };
        let text = |pointer: *const c_char| {
            if pointer.is_null() {
                return Some(String::new());
            }
            let has = bytes_at(pointer.cast()).min(TEXT_MAX);
            // SAFETY: these bytes are there; none behind the first zero is read.
            let byte = |place: usize| unsafe { pointer.cast::<u8>().add(place).read() };
            let text: Vec<u8> = (0..has).map(byte).take_while(|byte| *byte != 0).collect();
            // A text that does not end is none.
            (text.len() < has).then(|| String::from_utf8_lossy(&text).into_owned())
        };
        Some(Manifest {
            epoch: whole.epoch,
            flavour: whole.flavour,
            unwinds: whole.unwinds == 1,
            name: text(whole.name)?,
            version: text(whole.version)?,
            licence: text(whole.licence)?,
            built_with: text(whole.built_with)?,
        })
    }
}

/// A copy of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Interface epoch.
    pub epoch: u32,
    /// [`FLAVOUR_RUST`], [`FLAVOUR_C`], both, or one that this host does not know.
    pub flavour: u32,
    /// Whether panics can be caught.
    pub unwinds: bool,
    /// Package name.
    pub name: String,
    /// Package version.
    pub version: String,
    /// SPDX licence expression.
    pub licence: String,
    /// Version of this crate that the plugin was built with.
    pub built_with: String,
}
