//! What can be known of a library in ELF format before the system opens it: whether it is whole,
//! and whether it takes code from where nobody looked.

use object::elf::{
    DT_AUDIT, DT_AUXILIARY, DT_DEPAUDIT, DT_FILTER, DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH,
    DT_STRTAB, FileHeader32, FileHeader64,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, FileKind};

/// Why a library cannot be opened.
type Checked<T = ()> = Result<T, String>;

/// Checks that everything that the headers of a library speak of lies in the file. The system maps
/// it without looking, and a process that touches what is missing is killed (SIGBUS).
///
/// A file of another format is left to the system.
pub(super) fn check_whole(bytes: &[u8]) -> Checked {
    match FileKind::parse(bytes) {
        Ok(FileKind::Elf64) => whole::<FileHeader64<Endianness>>(bytes),
        Ok(FileKind::Elf32) => whole::<FileHeader32<Endianness>>(bytes),
        _ => Ok(()),
    }
}

/// Checks that a library brings no code along but its own and that of the system: with a list of
/// what may be loaded, what it needs would be loaded unlisted.
pub(super) fn check_alone(bytes: &[u8]) -> Checked {
    match FileKind::parse(bytes) {
        Ok(FileKind::Elf64) => alone::<FileHeader64<Endianness>>(bytes),
        Ok(FileKind::Elf32) => alone::<FileHeader32<Endianness>>(bytes),
        _ => Ok(()),
    }
}

fn cut_short(why: impl std::fmt::Display) -> String {
    format!("is cut short or damaged ({why}); build or copy it again")
}

fn whole<F: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Checked {
    let header = F::parse(bytes).map_err(cut_short)?;
    let endian = header.endian().map_err(cut_short)?;
    let segments = header.program_headers(endian, bytes).map_err(cut_short)?;
    for (number, segment) in segments.iter().enumerate() {
        let beyond = |()| cut_short(format!("segment {number} ends beyond {} bytes", bytes.len()));
        segment.data(endian, bytes).map_err(beyond)?;
    }
    for section in header.section_headers(endian, bytes).map_err(cut_short)? {
        section.data(endian, bytes).map_err(cut_short)?;
    }
    Ok(())
}

/// Entries that name a path to search, or code to run.
const FOREIGN: [(u32, &str); 6] = [
    (DT_RPATH, "DT_RPATH"),
    (DT_RUNPATH, "DT_RUNPATH"),
    (DT_AUDIT, "DT_AUDIT"),
    (DT_DEPAUDIT, "DT_DEPAUDIT"),
    (DT_AUXILIARY, "DT_AUXILIARY"),
    (DT_FILTER, "DT_FILTER"),
];

fn alone<F: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Checked {
    let header = F::parse(bytes).map_err(cut_short)?;
    let endian = header.endian().map_err(cut_short)?;
    // What the system goes by are segments: sections may say anything.
    let segments = header.program_headers(endian, bytes).map_err(cut_short)?;
    let mut entries: Vec<(u64, u64)> = Vec::new();
    for segment in segments {
        let list = segment.dynamic(endian, bytes).map_err(cut_short)?.unwrap_or_default();
        let pairs = list.iter().map(|e| (e.d_tag(endian).into(), e.d_val(endian).into()));
        entries.extend(pairs.take_while(|(tag, _)| *tag != u64::from(DT_NULL)));
    }
    let of = |tag: u32| entries.iter().filter(move |(t, _)| *t == u64::from(tag)).map(|(_, v)| *v);
    if let Some((_, name)) = FOREIGN.iter().find(|(tag, _)| of(*tag).next().is_some()) {
        return Err(format!(
            "takes other libraries from paths of its own ({name}), and these are on no list; link \
             what it needs into it"
        ));
    }
    for offset in of(DT_NEEDED) {
        let name = of(DT_STRTAB).next().and_then(|strings| {
            let address = strings.checked_add(offset)?;
            segments.iter().find_map(|segment| text_at(segment, endian, bytes, address))
        });
        let name = name.ok_or_else(|| cut_short("the name of a library that it needs"))?;
        if name.contains('/') {
            return Err(format!("needs {name}, which is on no list; link it into the library"));
        }
    }
    Ok(())
}

/// The text that ends with a zero, at an address of a segment.
fn text_at<P: ProgramHeader<Endian = Endianness>>(
    segment: &P,
    endian: Endianness,
    bytes: &[u8],
    address: u64,
) -> Option<String> {
    let start: u64 = segment.p_vaddr(endian).into();
    let data = segment.data(endian, bytes).ok()?;
    let rest = data.get(usize::try_from(address.checked_sub(start)?).ok()?..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    /// The running test is a program in the same format.
    fn program() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let bytes = program();
        check_whole(&bytes).unwrap();
        let places = (1..64).map(|part| bytes.len() / 64 * part);
        for len in places.chain([64, 1000, bytes.len() - 1]) {
            let said = check_whole(&bytes[..len]).unwrap_err();
            assert!(said.starts_with("is cut short or damaged"), "{len}: {said}");
        }
        check_whole(b"no library at all").unwrap();
    }

    #[test]
    fn a_path_to_search_is_seen() {
        let mut bytes = program();
        check_alone(&bytes).unwrap();
        // Of the first entry that names a library, one that names a path.
        let header = FileHeader64::<Endianness>::parse(&*bytes).unwrap();
        let endian = header.endian().unwrap();
        let segments = header.program_headers(endian, &*bytes).unwrap();
        let dynamic = segments.iter().find(|s| s.dynamic(endian, &*bytes).unwrap().is_some());
        let offset = dynamic.unwrap().p_offset(endian) as usize;
        let (tag, size) = (u64::from(DT_NEEDED).to_le_bytes(), 16);
        let entry = (offset..).step_by(size).find(|at| bytes[*at..at + 8] == tag).unwrap();
        bytes[entry..entry + 8].copy_from_slice(&u64::from(DT_RUNPATH).to_le_bytes());
        let said = check_alone(&bytes).unwrap_err();
        assert!(said.contains("DT_RUNPATH"), "{said}");
    }
}
