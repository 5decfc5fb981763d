//! Segments, the growing file and the final file: equal bytes however they came about.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use proptest::prelude::*;

use super::{ball_clip, noise_clip, psnr_db, read_back};
use crate::video::boxes;
use crate::{
    Error, GrowingIndex, GrowingMp4, MuxError, Segment, SegmentEncoder, VideoFormat, VideoFrames,
    VideoTags, encode_mp4, read_tags, read_video,
};

/// All frames from segment `first` on, as segments.
pub(super) fn segments(clip: &VideoFrames, fps: f64, first: usize) -> Vec<Segment> {
    let format = VideoFormat::new(clip.width(), clip.height(), fps).unwrap();
    let mut encoder = SegmentEncoder::starting_at(format, first);
    let start = encoder.next_frame();
    assert_eq!(start, first * format.segment_frames());
    let mut made: Vec<_> =
        clip.iter().skip(start).filter_map(|frame| encoder.push(frame).unwrap()).collect();
    made.extend(encoder.finish());
    made
}

/// The growing file of these segments, and where each of them ends in it.
pub(super) fn growing_file(segments: &[Segment]) -> (Vec<u8>, Vec<usize>) {
    let mut growing = GrowingMp4::new(segments[0].format);
    let mut file = Cursor::new(Vec::new());
    let mut ends = Vec::new();
    for segment in segments {
        growing.append(segment).unwrap().write(&mut file).unwrap();
        ends.push(file.get_ref().len());
    }
    (file.into_inner(), ends)
}

pub(super) fn index_of(file: &[u8]) -> Option<GrowingIndex> {
    GrowingIndex::read(&mut Cursor::new(file), u64::MAX).unwrap()
}

fn finished(file: &[u8], tags: &VideoTags) -> Vec<u8> {
    let mut mp4 = Vec::new();
    index_of(file).unwrap().write_faststart(&mut Cursor::new(file), tags, &mut mp4).unwrap();
    mp4
}

/// Goes on with what is left of a growing file.
fn resumed(mut file: Vec<u8>, clip: &VideoFrames, fps: f64) -> Vec<u8> {
    let Some(index) = index_of(&file) else { return growing_file(&segments(clip, fps, 0)).0 };
    let there = index.resume_point();
    assert_eq!(there.next_frame, there.segments * index.format().segment_frames());
    file.truncate(there.bytes as usize);
    let mut growing = GrowingMp4::resume(&index);
    assert_eq!(growing.next_segment(), there.segments);
    let mut file = Cursor::new(file);
    for segment in segments(clip, fps, there.segments) {
        growing.append(&segment).unwrap().write(&mut file).unwrap();
    }
    file.into_inner()
}

#[test]
fn in_one_go_by_segments_and_resumed_at_any_segment_the_bytes_are_equal() {
    let tags = VideoTags { title: "a ball".into(), ..VideoTags::default() };
    for (width, height, fps) in [(32, 16, 16.0), (90, 50, 24000.0 / 1001.0), (16, 32, 0.3)] {
        let n = VideoFormat::new(width, height, fps).unwrap().segment_frames();
        for frames in [1, n - 1, n, n + 1, 2 * n + 3] {
            let clip = ball_clip(frames, width, height);
            let whole = encode_mp4(&clip, fps, &tags).unwrap();
            let made = segments(&clip, fps, 0);
            assert_eq!(made.iter().map(Segment::frames).sum::<usize>(), frames);
            assert_eq!(made.len(), frames.div_ceil(n));
            let (file, ends) = growing_file(&made);
            assert!(finished(&file, &tags) == whole, "{frames} frames of {width}x{height}");
            for (k, end) in ends.iter().enumerate() {
                // Stopped when it was whole, and in the midst of the next.
                for left in [*end, (end + 30).min(file.len())] {
                    let again = resumed(file[..left].to_vec(), &clip, fps);
                    assert!(again == file, "{frames} frames, stopped after segment {k}");
                }
            }
        }
    }
}

#[test]
fn a_segment_depends_on_its_own_frames_alone() {
    let format = VideoFormat::new(128, 96, 16.0).unwrap();
    let n = format.segment_frames();
    let (quiet, noise) = (ball_clip(2 * n, 128, 96), noise_clip(n, 128, 96));
    // The noise is encoded with coarser steps, and what follows it is not.
    let between = [&quiet.rgb()[..quiet.rgb().len() / 2], noise.rgb(), quiet.rgb()].concat();
    let between = VideoFrames::new(128, 96, between).unwrap();
    let (alone, among) = (segments(&quiet, 16.0, 0), segments(&between, 16.0, 0));
    assert_eq!((alone.len(), among.len()), (2, 4));
    for (first, second) in [(0, 0), (0, 2), (1, 3)] {
        assert!(alone[first].bytes() == among[second].bytes(), "{first} {second}");
    }
    assert_ne!(among[1].bytes(), among[0].bytes());
    assert_eq!(segments(&between, 16.0, 2), among[2..]);
    // One set of parameters serves them all.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("between.mp4");
    let mp4 = finished(&growing_file(&among).0, &VideoTags::default());
    std::fs::write(&path, mp4).unwrap();
    let decoded = read_back(&path).1;
    assert_eq!(decoded.len(), 4 * n);
    for index in (0..n).chain(2 * n..4 * n) {
        assert!(psnr_db(between.frame(index), &decoded[index]) > 35.0, "frame {index}");
    }
    assert_eq!(read_video(&path).unwrap().frames(), 4 * n);
}

#[test]
fn the_final_file_has_every_frame_at_its_time_and_the_tags() {
    let (width, height, fps) = (64, 48, 24000.0 / 1001.0);
    let clip = ball_clip(99, width, height);
    let tags = VideoTags { title: "ball".into(), comment: "c".into(), description: "d".into() };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    std::fs::write(&path, encode_mp4(&clip, fps, &tags).unwrap()).unwrap();
    let (mut reader, decoded) = read_back(&path);
    for (index, picture) in decoded.iter().enumerate() {
        assert!(psnr_db(clip.frame(index), picture) > 33.0, "frame {index}");
    }
    for index in 0..99_u32 {
        let sample = reader.read_sample(1, index + 1).unwrap().unwrap();
        assert_eq!((sample.start_time, sample.duration), (u64::from(index) * 1001, 1001));
        assert!(!index.is_multiple_of(48) || sample.is_sync, "frame {index}");
    }
    assert_eq!(reader.tracks()[&1].timescale(), 24000);
    assert_eq!(read_tags(&path).unwrap(), tags);
}

#[test]
fn what_does_not_follow_is_refused() {
    let quiet = segments(&ball_clip(70, 32, 16), 16.0, 0);
    let [first, second, short] = &quiet[..] else { panic!("{} segments", quiet.len()) };
    let mux = |error: Error| match error {
        Error::Mux(why) => why.to_string(),
        other => panic!("{other}"),
    };
    let mut growing = GrowingMp4::new(first.format);
    let refused = mux(growing.append(second).unwrap_err());
    assert_eq!(refused, "segment 1 was given, segment 0 is next");
    growing.append(first).unwrap();
    let other = &segments(&ball_clip(70, 32, 18), 16.0, 0)[1];
    assert!(mux(growing.append(other).unwrap_err()).contains("another size or frame rate"));
    let mut of_another_encoder = second.clone();
    of_another_encoder.parameters.picture.push(0);
    let refused = mux(growing.append(&of_another_encoder).unwrap_err());
    assert!(refused.contains("the H.264 parameters of segment 1 are not those"), "{refused}");
    growing.append(second).unwrap();
    growing.append(short).unwrap();
    let refused = growing.append(short);
    assert!(matches!(refused, Err(Error::Mux(MuxError::AfterTheLast { last: 2 }))));

    let mut encoder = SegmentEncoder::new(first.format);
    for bytes in [0, 32 * 16 * 3 - 1, 2 * 32 * 16 * 3] {
        let refused = encoder.push(&vec![0; bytes]);
        assert!(matches!(refused, Err(Error::Shape { bytes: b, .. }) if b == bytes));
    }
    assert_eq!((encoder.next_frame(), encoder.finish()), (0, None));
}

/// Notes the longest pieces that are read and written.
struct Pieces {
    file: Cursor<Vec<u8>>,
    longest: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.longest = self.longest.max(buffer.len());
        self.file.read(buffer)
    }
}

impl Seek for Pieces {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.longest = self.longest.max(bytes.len());
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn pictures_are_copied_piece_by_piece() {
    let clip = noise_clip(40, 128, 96);
    let (file, ends) = growing_file(&segments(&clip, 16.0, 0));
    assert!(ends[0] > 200_000, "{ends:?}");
    let mut growing = Pieces { file: Cursor::new(file), longest: 0 };
    let mut out = Pieces { file: Cursor::new(Vec::new()), longest: 0 };
    let index = GrowingIndex::read(&mut growing, u64::MAX).unwrap().unwrap();
    index.write_faststart(&mut growing, &VideoTags::default(), &mut out).unwrap();
    assert!(growing.longest <= 1 << 16 && out.longest <= 1 << 16);
    assert!(out.file.into_inner() == encode_mp4(&clip, 16.0, &VideoTags::default()).unwrap());
}

/// Zeros in which some bytes stand.
struct Sparse {
    pieces: Vec<(u64, Vec<u8>)>,
    length: u64,
    at: u64,
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(0);
        let last = self.pieces.partition_point(|(start, _)| *start <= self.at).checked_sub(1);
        let (start, bytes) = &self.pieces[last.unwrap()];
        let piece = bytes.get((self.at - start) as usize..).unwrap_or_default();
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        self.at += buffer.len() as u64;
        Ok(buffer.len())
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(0) => self.length,
            other => panic!("{other:?}"),
        };
        Ok(self.at)
    }
}

#[test]
fn beyond_four_gib_places_and_sizes_have_eight_bytes() {
    let small = &segments(&ball_clip(32, 32, 16), 16.0, 0)[0];
    let stream = boxes::Stream { format: small.format, parameters: small.parameters.clone() };
    let mut sparse = Sparse { pieces: Vec::new(), length: 0, at: 0 };
    let mut samples = small.samples.clone();
    let unit = 40_u32 << 20;
    samples.iter_mut().for_each(|sample| sample.bytes = unit + 4);
    for segment in 0..5 {
        let mut head = if segment == 0 { boxes::growing_head(&stream).unwrap() } else { vec![] };
        head.extend(boxes::fragment_head(&stream, segment, segment * 32, &samples).unwrap());
        let start = sparse.length + head.len() as u64;
        sparse.pieces.push((sparse.length, head));
        for sample in 0..32 {
            let at = start + sample * u64::from(unit + 4);
            sparse.pieces.push((at, unit.to_be_bytes().to_vec()));
        }
        sparse.length = start + 32 * u64::from(unit + 4);
    }
    let index = GrowingIndex::read(&mut sparse, u64::MAX).unwrap().unwrap();
    assert_eq!((index.frames(), index.bytes()), (160, sparse.length));
    let head = index.faststart_head(&VideoTags::default()).unwrap();
    let payload = 160 * u64::from(unit + 4);
    let size = [&1_u32.to_be_bytes()[..], b"mdat", &(payload + 16).to_be_bytes()].concat();
    assert!(head.ends_with(&size));
    let table = head.windows(4).position(|name| name == b"co64").unwrap();
    for chunk in 0..5 {
        let entry = &head[table + 12 + 8 * chunk..][..8];
        let place = head.len() as u64 + chunk as u64 * 32 * u64::from(unit + 4);
        assert_eq!(entry, place.to_be_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A run that is stopped again and again ends with the file of one that was not.
    #[test]
    fn stops_leave_no_trace(frames in 1..12_usize, stops in prop::collection::vec(0.0..1.0, 0..5)) {
        let (clip, fps) = (ball_clip(frames, 32, 16), 1.2);
        let whole = growing_file(&segments(&clip, fps, 0)).0;
        let mut file = Vec::new();
        for stop in stops {
            file = resumed(file, &clip, fps);
            file.truncate((file.len() as f64 * stop) as usize);
        }
        prop_assert!(resumed(file, &clip, fps) == whole);
    }
}
