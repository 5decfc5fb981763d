//! Where the numbers of GGUF and protobuf files are.

use std::ops::Range;

use crate::formats::Site;

/// Numbers of a file of which no more are looked for.
const SITES_MAX: usize = 5000;

/// A walk over a file.
struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
    sites: Vec<Site>,
}

impl Walk<'_> {
    /// Takes note of a little-endian number of so many bytes, and gives it.
    fn number(&mut self, width: usize) -> Option<u64> {
        let found = self.bytes.get(self.at..self.at.checked_add(width)?)?;
        let mut raw = [0; 8];
        raw[..width].copy_from_slice(found);
        if self.sites.len() >= SITES_MAX {
            return None;
        }
        self.sites.push(Site { place: self.at..self.at + width, big_endian: false });
        self.at += width;
        Some(u64::from_le_bytes(raw))
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        self.at = self.at.checked_add(usize::try_from(count).ok()?)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn string(&mut self) -> Option<()> {
        let length = self.number(8)?;
        self.skip(length)
    }

    fn value(&mut self, kind: u64) -> Option<()> {
        match kind {
            0 | 1 | 7 => self.number(1).map(drop),
            2 | 3 => self.number(2).map(drop),
            4..=6 => self.number(4).map(drop),
            8 => self.string(),
            9 => {
                let (kind, count) = (self.number(4)?, self.number(8)?);
                (0..count).try_for_each(|_| if kind == 9 { None } else { self.value(kind) })
            }
            10..=12 => self.number(8).map(drop),
            _ => None,
        }
    }

    /// The header of a GGUF file.
    fn gguf(&mut self) -> Option<()> {
        self.skip(4)?;
        self.number(4)?;
        let (tensors, keys) = (self.number(8)?, self.number(8)?);
        for _ in 0..keys {
            self.string()?;
            let kind = self.number(4)?;
            self.value(kind)?;
        }
        for _ in 0..tensors {
            self.string()?;
            let dimensions = self.number(4)?;
            for _ in 0..dimensions {
                self.number(8)?;
            }
            self.number(4)?;
            self.number(8)?;
        }
        Some(())
    }
}

/// Lengths, counts, types and offsets of a GGUF file.
pub(crate) fn gguf(bytes: &[u8]) -> Vec<Site> {
    let mut walk = Walk { bytes, at: 0, sites: Vec::new() };
    // What does not end as it should has the numbers that came before.
    let _ = walk.gguf();
    walk.sites
}

/// Keys, lengths and numbers of a protobuf message, and of the messages in it.
pub(crate) fn protobuf(bytes: &[u8], within: Range<usize>) -> Vec<Site> {
    let (mut sites, mut at) = (Vec::new(), within.start);
    while at + 1 < within.end && sites.len() < SITES_MAX {
        let key = bytes[at];
        let site = |start: usize, width: usize| Site {
            place: start..(start + width).min(within.end),
            big_endian: false,
        };
        sites.extend([site(at, 1), site(at + 1, 1)]);
        at += 2;
        match key & 7 {
            // One byte of the length is enough for a model of a few pieces.
            2 => {
                let end = at.saturating_add(usize::from(bytes[at - 1] & 0x7f)).min(within.end);
                if key >> 3 <= 3 && end > at + 3 {
                    sites.extend(protobuf(bytes, at..end));
                }
                at = end;
            }
            5 => {
                sites.push(site(at - 1, 4));
                at += 3;
            }
            1 => {
                sites.push(site(at - 1, 8));
                at += 7;
            }
            _ => {}
        }
    }
    sites.retain(|site| !site.place.is_empty());
    sites
}
