//! Growing files that are cut, were being written, or are damaged.

use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::sync::LazyLock;

use proptest::prelude::*;

use super::ball_clip;
use super::growing::{growing_file, index_of, segments};
use crate::{Error, GrowingIndex, GrowingMp4, StructureError, VideoFrames};

/// A file of three segments, of 3, 3 and 2 frames.
fn small_file() -> (Vec<u8>, Vec<usize>) {
    growing_file(&segments(&ball_clip(8, 32, 16), 1.5, 0))
}

/// Frames that are whole in the first `length` bytes.
fn whole_frames(ends: &[usize], length: usize) -> usize {
    [3, 6, 8].into_iter().zip(ends).rfind(|(_, end)| **end <= length).map_or(0, |(n, _)| n)
}

fn frames_of(file: &[u8]) -> usize {
    index_of(file).map_or(0, |index| index.frames())
}

#[test]
fn a_file_that_is_cut_anywhere_holds_its_whole_segments() {
    let (file, ends) = small_file();
    for length in 0..=file.len() {
        let expected = whole_frames(&ends, length);
        assert_eq!(frames_of(&file[..length]), expected, "cut to {length} bytes");
        let within = GrowingIndex::read(&mut Cursor::new(&file), length as u64).unwrap();
        assert_eq!(within.map_or(0, |index| index.frames()), expected, "the first {length} bytes");
    }
    let index = index_of(&file).unwrap();
    assert_eq!((index.frames(), index.bytes()), (8, file.len() as u64));
    let there = index.resume_point();
    assert_eq!((there.segments, there.next_frame, there.bytes), (2, 6, ends[1] as u64));
}

/// Takes so many bytes, and then no more.
struct Stopped {
    file: Cursor<Vec<u8>>,
    left: usize,
}

impl Write for Stopped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.left);
        self.left -= count;
        self.file.write(&bytes[..count])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Stopped {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn a_writer_that_is_stopped_anywhere_shows_whole_fragments_alone() {
    let made = segments(&ball_clip(8, 32, 16), 1.5, 0);
    let (file, ends) = small_file();
    let mut done = false;
    for bytes in 0.. {
        let mut growing = GrowingMp4::new(made[0].format);
        let mut stopped = Stopped { file: Cursor::new(Vec::new()), left: bytes };
        let written = made.iter().try_for_each(|s| growing.append(s)?.write(&mut stopped));
        let left = stopped.file.into_inner();
        if written.is_ok() {
            assert!(left == file);
            done = true;
            break;
        }
        assert!(matches!(written, Err(Error::Io { doing: "write the growing video", .. })));
        let shown = shown_fragments(&left);
        let whole = if shown == 0 { 0 } else { whole_frames(&ends[..shown], left.len()) };
        assert_eq!(frames_of(&left), whole, "stopped after {bytes} bytes");
        assert!(shown == 0 || left.len() >= ends[shown - 1], "stopped after {bytes} bytes");
    }
    assert!(done);
}

/// How many boxes of the file are called `moof`.
fn shown_fragments(file: &[u8]) -> usize {
    let (mut at, mut shown) = (0, 0);
    while let Some(header) = file.get(at..at + 8) {
        shown += usize::from(&header[4..] == b"moof");
        at += u32::from_be_bytes(header[..4].try_into().unwrap()) as usize;
    }
    shown
}

#[test]
fn a_damaged_frame_count_size_or_place_is_never_believed() {
    let (file, ends) = small_file();
    let index = index_of(&file).unwrap();
    let heads: Vec<_> = std::iter::once(0).chain(ends).collect();
    let last = *heads.last().unwrap();
    for (start, payload) in heads.iter().zip(index.payloads()) {
        for at in *start..payload.start as usize {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = file.clone();
                damaged[at] ^= flip;
                match GrowingIndex::read(&mut Cursor::new(&damaged), last as u64) {
                    Err(Error::Structure(StructureError::NotOurs { .. })) => {}
                    Err(error) => panic!("byte {at}: {error}"),
                    // A size that reaches beyond the file; a fragment that looks hidden.
                    Ok(None) => {}
                    Ok(Some(found)) if found.frames() < 8 => {}
                    // What stands in one place alone: the format and the parameters.
                    Ok(Some(found)) => assert_ne!(found, index, "byte {at}"),
                }
            }
        }
    }
}

#[test]
fn what_is_no_growing_file_is_refused() {
    let (file, ends) = small_file();
    let refused = |bytes: &[u8]| {
        let read = GrowingIndex::read(&mut Cursor::new(bytes), u64::MAX);
        read.unwrap_err().to_string()
    };
    assert!(refused(b"not a video at all").contains("at byte 0 should be ftyp"));
    let clip = ball_clip(1, 32, 16);
    let plain = crate::encode_mp4(&clip, 16.0, &crate::VideoTags::default()).unwrap();
    assert!(refused(&plain).contains("ftyp and moov of a growing file"));
    // A segment twice, and one that is left out.
    let twice = [&file[..ends[0]], &file[index_of(&file).unwrap().payloads()[0].end as usize..]];
    assert_eq!(twice.concat(), file);
    let second = &file[ends[0]..ends[1]];
    assert!(refused(&[&file[..ends[1]], second].concat()).contains("of the next segment"));
    assert!(refused(&[&file[..ends[0]], &file[ends[1]..]].concat()).contains("of the next"));
    assert!(refused(&[&file[..], second].concat()).contains("should be the end"));
    // A fragment that looks hidden with others behind it.
    let mut hidden = file.clone();
    hidden[ends[0] + 4..ends[0] + 8].copy_from_slice(b"free");
    assert!(refused(&hidden).contains("of the next segment"));
    assert_eq!(frames_of(&hidden[..ends[1]]), 3);
}

#[test]
fn units_that_do_not_add_up_are_refused() {
    let (file, _) = small_file();
    let payload = index_of(&file).unwrap().payloads()[0].clone();
    for length in [0, 1, u32::MAX] {
        let mut damaged = file.clone();
        damaged[payload.start as usize..][..4].copy_from_slice(&length.to_be_bytes());
        let read = GrowingIndex::read(&mut Cursor::new(&damaged), u64::MAX);
        assert!(read.is_err(), "a unit of {length} bytes");
    }
}

#[derive(Clone, Debug)]
enum Harm {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Word(prop::sample::Index, u32),
}

fn harm() -> impl Strategy<Value = Harm> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        (place(), 1..=255_u8).prop_map(|(at, flip)| Harm::Flip(at, flip)),
        place().prop_map(Harm::Cut),
        (place(), prop::collection::vec(any::<u8>(), 1..9))
            .prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        (place(), 1..40_usize).prop_map(|(at, count)| Harm::Remove(at, count)),
        (place(), prop_oneof![Just(0), Just(1), Just(u32::MAX), 0..2000_u32])
            .prop_map(|(at, word)| Harm::Word(at, word)),
    ]
}

fn do_harm(file: &mut Vec<u8>, harm: Harm) {
    if file.is_empty() {
        return;
    }
    match harm {
        Harm::Flip(at, flip) => {
            let at = at.index(file.len());
            file[at] ^= flip;
        }
        Harm::Cut(at) => file.truncate(at.index(file.len())),
        Harm::Insert(at, bytes) => {
            let at = at.index(file.len());
            file.splice(at..at, bytes);
        }
        Harm::Remove(at, count) => {
            let at = at.index(file.len());
            file.drain(at..(at + count).min(file.len()));
        }
        Harm::Word(at, word) => {
            let at = at.index(file.len());
            let end = (at + 4).min(file.len());
            file[at..end].copy_from_slice(&word.to_be_bytes()[..end - at]);
        }
    }
}

static SMALL_FILE: LazyLock<Vec<u8>> = LazyLock::new(|| small_file().0);

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_to_a_file_its_reader_answers(
        harms in prop::collection::vec(harm(), 1..6),
    ) {
        let mut file = SMALL_FILE.clone();
        harms.into_iter().for_each(|harm| do_harm(&mut file, harm));
        let read = GrowingIndex::read(&mut Cursor::new(&file), u64::MAX);
        if let Ok(Some(index)) = read {
            prop_assert!(index.bytes() <= file.len() as u64);
            prop_assert!((1..=8).contains(&index.frames()));
            let mut out = Vec::new();
            let tags = crate::VideoTags::default();
            index.write_faststart(&mut Cursor::new(&file), &tags, &mut out).unwrap();
        }
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_copied_is_an_error() {
    let clip = VideoFrames::new(32, 16, vec![90; 4 * 32 * 16 * 3]).unwrap();
    let (file, _) = growing_file(&segments(&clip, 1.5, 0));
    let index = index_of(&file).unwrap();
    let shorter = &file[..file.len() - 1];
    let tags = crate::VideoTags::default();
    let copied = index.write_faststart(&mut Cursor::new(shorter), &tags, &mut Vec::new());
    assert!(matches!(copied, Err(Error::Io { doing: "read the growing video", .. })));
}
