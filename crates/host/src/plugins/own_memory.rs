//! Which memory is a library's own: what its manifest points to has to lie there.

use std::fs;
use std::ops::Range;

/// The mapping of a loaded file that can be read; everything where the system does not tell.
pub(crate) struct OwnMemory(Option<Vec<Range<usize>>>);

impl OwnMemory {
    /// Of the file that something at this address belongs to.
    pub(crate) fn around(address: *const u8) -> Self {
        // Only Linux has it.
        let maps = fs::read_to_string("/proc/self/maps");
        Self(maps.ok().map(|maps| ranges(&maps, address as usize)))
    }

    /// Bytes that can be read from an address on.
    pub(crate) fn bytes_at(&self, address: *const u8) -> usize {
        let Some(ranges) = &self.0 else { return usize::MAX };
        let address = address as usize;
        ranges.iter().find(|range| range.contains(&address)).map_or(0, |range| range.end - address)
    }
}

/// A line of the table, if what it maps can be read: the range, and the file's name.
fn mapping(line: &str) -> Option<(Range<usize>, &str)> {
    // Offset, device and inode stand between the permissions and the name.
    let [range, permissions, _, _, _, file] = line.splitn(6, ' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let (from, to) = range.split_once('-')?;
    let number = |text: &str| usize::from_str_radix(text, 16).ok();
    let range = number(from)?..number(to)?;
    permissions.starts_with('r').then_some((range, file.trim()))
}

/// What can be read of the file that has this address. Ranges that touch are one.
fn ranges(maps: &str, address: usize) -> Vec<Range<usize>> {
    let all: Vec<(Range<usize>, &str)> = maps.lines().filter_map(mapping).collect();
    let file = all.iter().find(|(range, _)| range.contains(&address)).map(|(_, file)| *file);
    let mut own: Vec<Range<usize>> = Vec::new();
    for (range, _) in all.into_iter().filter(|(_, name)| Some(*name) == file) {
        match own.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => own.push(range),
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
        1000-2000 r--p 00000000 08:01 11   /a/lib x.so\n\
        2000-3000 r-xp 00001000 08:01 11   /a/lib x.so\n\
        3000-4000 ---p 00002000 08:01 11   /a/lib x.so\n\
        4000-5000 rw-p 00003000 08:01 11   /a/lib x.so\n\
        5000-6000 rw-p 00000000 00:00 0 \n\
        7000-8000 r--p 00000000 08:01 12   /a/liby.so\n";

    #[test]
    fn what_is_not_of_the_same_file_cannot_be_read() {
        let own = OwnMemory(Some(ranges(MAPS, 0x4010)));
        let bytes = |address: usize| own.bytes_at(address as *const u8);
        assert_eq!([bytes(0x1ff0), bytes(0x4ff0)], [0x1010, 0x10]);
        assert_eq!([bytes(0x10), bytes(0x3800), bytes(0x5800), bytes(0x7800)], [0; 4]);
        assert_eq!(OwnMemory(Some(ranges(MAPS, 0x9000))).bytes_at(0x1000 as *const u8), 0);
        let here = OwnMemory::around(MAPS.as_ptr());
        assert!(here.bytes_at(MAPS.as_ptr()) >= MAPS.len());
    }
}
