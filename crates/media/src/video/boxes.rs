//! The boxes of our MP4 files (ISO/IEC 14496-12): what is written, and what it is read back by.
//!
//! One track of H.264, all frames equally long and in the order in which they are shown, no times
//! of day: the same frames have the same bytes.

use std::num::{NonZeroU16, NonZeroU32};

use shiguredo_mp4::boxes::{
    Avc1Box, AvccBox, Brand, Co64Box, DinfBox, FtypBox, HdlrBox, MdhdBox, MdiaBox, MediaHeader,
    MfhdBox, MinfBox, MoofBox, MoovBox, MvexBox, MvhdBox, SampleEntry, StblBox, StcoBox, StscBox,
    StscEntry, StsdBox, StssBox, StszBox, SttsBox, SttsEntry, TfdtBox, TfhdBox, TkhdBox, TrafBox,
    TrakBox, TrexBox, TrunBox, TrunSample, UnknownBox, VisualSampleEntryFields, VmhdBox,
};
use shiguredo_mp4::{
    BoxSize, BoxType, Decode, Either, Encode, FixedPointNumber, LanguageCode, Mp4FileTime,
    SampleFlags, Uint,
};

use super::format::VideoFormat;
use super::segments::{Parameters, Sample};
use crate::error::MuxError;

/// Length of a box header: size and name.
pub(super) const HEADER_BYTES: usize = 8;

/// The name of a fragment, and the one it has until it is whole: players pass over it
/// (8.1.2, "free space").
pub(super) const SHOWN: [u8; 4] = *b"moof";
pub(super) const HIDDEN: [u8; 4] = *b"free";

const TRACK: u32 = 1;

/// Flags of a frame (8.8.3.1): that it depends on no other, or on others and is no place to begin.
const KEY_FRAME: u32 = 0x0200_0000;
const OTHER_FRAME: u32 = 0x0101_0000;

/// What makes H.264 of a level above these carry three numbers more: Baseline, Main, Extended.
const PLAIN_PROFILES: [u8; 3] = [66, 77, 88];

type Result<T> = crate::error::Result<T, MuxError>;

/// What all frames of a file have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) format: VideoFormat,
    pub(super) parameters: Parameters,
}

/// Where the frames of a plain file lie.
pub(super) struct SampleTable<'a> {
    pub(super) samples: &'a [Sample],
    /// Frames of each chunk but the last.
    pub(super) chunk_frames: usize,
    /// The first byte of the first chunk; the chunks follow each other.
    pub(super) start: u64,
    /// Whether places in the file take eight bytes.
    pub(super) is_wide: bool,
}

/// The beginning of a growing file: `ftyp`, and a `moov` without frames.
pub(super) fn growing_head(stream: &Stream) -> Result<Vec<u8>> {
    let ftyp = FtypBox {
        major_brand: Brand::ISO5,
        minor_version: 0,
        compatible_brands: vec![Brand::ISO5, Brand::ISO6, Brand::AVC1, Brand::MP41],
    };
    let trex = TrexBox {
        track_id: TRACK,
        default_sample_description_index: 1,
        default_sample_duration: stream.format.ticks_per_frame(),
        default_sample_size: 0,
        default_sample_flags: SampleFlags::new(OTHER_FRAME),
    };
    let mvex = MvexBox { mehd_box: None, trex_boxes: vec![trex], unknown_boxes: Vec::new() };
    let empty = SampleTable { samples: &[], chunk_frames: 1, start: 0, is_wide: false };
    let moov = MoovBox { mvex_box: Some(mvex), ..movie(stream, &empty)? };
    Ok([ftyp.encode_to_vec()?, moov.encode_to_vec()?].concat())
}

/// What stands before the frames of a fragment: `moof`, and the header of `mdat`.
///
/// `first` is the number of its first frame, `index` that of the fragment, both from 0.
pub(super) fn fragment_head(
    stream: &Stream,
    index: usize,
    first: usize,
    samples: &[Sample],
) -> Result<Vec<u8>> {
    let payload: u64 = samples.iter().map(|sample| u64::from(sample.bytes)).sum();
    let mdat = u32::try_from(payload + HEADER_BYTES as u64).map_err(|_| MuxError::TooLarge)?;
    let ticks = (first as u64).checked_mul(u64::from(stream.format.ticks_per_frame()));
    let mut moof = MoofBox {
        mfhd_box: MfhdBox { sequence_number: number(index + 1)? },
        traf_boxes: vec![TrafBox {
            tfhd_box: TfhdBox {
                track_id: TRACK,
                base_data_offset: None,
                sample_description_index: None,
                default_sample_duration: None,
                default_sample_size: None,
                default_sample_flags: None,
                duration_is_empty: false,
                default_base_is_moof: true,
            },
            tfdt_box: Some(TfdtBox {
                version: 1,
                base_media_decode_time: ticks.ok_or(MuxError::TooLarge)?,
            }),
            trun_boxes: vec![TrunBox {
                data_offset: Some(0),
                first_sample_flags: None,
                samples: samples.iter().map(run_entry).collect(),
            }],
            unknown_boxes: Vec::new(),
        }],
        unknown_boxes: Vec::new(),
    };
    let start = moof.encode_to_vec()?.len() + HEADER_BYTES;
    let start = i32::try_from(start).map_err(|_| MuxError::TooLarge)?;
    moof.traf_boxes[0].trun_boxes[0].data_offset = Some(start);
    Ok([&moof.encode_to_vec()?, &mdat.to_be_bytes()[..], b"mdat"].concat())
}

fn run_entry(sample: &Sample) -> TrunSample {
    let flags = if sample.is_key { KEY_FRAME } else { OTHER_FRAME };
    TrunSample {
        duration: None,
        size: Some(sample.bytes),
        flags: Some(SampleFlags::new(flags)),
        composition_time_offset: None,
    }
}

/// The beginning of a plain file: `ftyp`, and a `moov` with all frames and the tags in `user_data`,
/// the payload of its box.
pub(super) fn plain_head(
    stream: &Stream,
    table: &SampleTable<'_>,
    user_data: Option<Vec<u8>>,
) -> Result<Vec<u8>> {
    let ftyp = FtypBox {
        major_brand: Brand::ISOM,
        minor_version: 0,
        compatible_brands: vec![Brand::ISOM, Brand::ISO2, Brand::AVC1, Brand::MP41],
    };
    let mut moov = movie(stream, table)?;
    if let Some(payload) = user_data {
        let size = number(HEADER_BYTES + payload.len())?;
        let (box_type, box_size) = (BoxType::Normal(*b"udta"), BoxSize::U32(size));
        moov.unknown_boxes.push(UnknownBox { box_type, box_size, payload });
    }
    Ok([ftyp.encode_to_vec()?, moov.encode_to_vec()?].concat())
}

/// Format and parameters of a growing file that begins with this `moov`; none where they are not
/// as we write them. Whether all of it is as we write it is for the caller to compare.
pub(super) fn stream_of(moov: &[u8]) -> Option<Stream> {
    let (moov, _) = MoovBox::decode(moov).ok()?;
    let track = moov.trak_boxes.into_iter().next()?;
    let media = track.mdia_box;
    let ticks = moov.mvex_box?.trex_boxes.first()?.default_sample_duration;
    let SampleEntry::Avc1(entry) = media.minf_box.stbl_box.stsd_box.entries.into_iter().next()?
    else {
        return None;
    };
    let size = (usize::from(entry.visual.width), usize::from(entry.visual.height));
    let format = VideoFormat::of_ticks(size, media.mdhd_box.timescale.get(), ticks)?;
    let sequence = entry.avcc_box.sps_list.into_iter().next()?;
    let picture = entry.avcc_box.pps_list.into_iter().next()?;
    Some(Stream { format, parameters: Parameters { sequence, picture } })
}

/// The frames of a fragment that begins with this `moof`; as [`stream_of`].
pub(super) fn samples_of(moof: &[u8]) -> Option<Vec<Sample>> {
    let (moof, _) = MoofBox::decode(moof).ok()?;
    let run = moof.traf_boxes.first()?.trun_boxes.first()?;
    let sample = |entry: &TrunSample| {
        let is_key = entry.flags?.get() == KEY_FRAME;
        Some(Sample { bytes: entry.size?, is_key })
    };
    run.samples.iter().map(sample).collect()
}

fn movie(stream: &Stream, table: &SampleTable<'_>) -> Result<MoovBox> {
    let format = &stream.format;
    let timescale = NonZeroU32::new(format.ticks_per_second()).unwrap_or(NonZeroU32::MIN);
    let frames = table.samples.len() as u64;
    let duration = frames.checked_mul(u64::from(format.ticks_per_frame()));
    let duration = duration.ok_or(MuxError::TooLarge)?;
    let (creation_time, modification_time) = (Mp4FileTime::default(), Mp4FileTime::default());
    Ok(MoovBox {
        mvhd_box: MvhdBox {
            creation_time,
            modification_time,
            timescale,
            duration,
            rate: MvhdBox::DEFAULT_RATE,
            volume: MvhdBox::DEFAULT_VOLUME,
            matrix: MvhdBox::DEFAULT_MATRIX,
            next_track_id: TRACK + 1,
        },
        trak_boxes: vec![TrakBox {
            tkhd_box: track_head(format, duration)?,
            edts_box: None,
            mdia_box: MdiaBox {
                mdhd_box: MdhdBox {
                    creation_time,
                    modification_time,
                    timescale,
                    duration,
                    language: LanguageCode::UNDEFINED,
                },
                hdlr_box: HdlrBox {
                    handler_type: HdlrBox::HANDLER_TYPE_VIDE,
                    name: b"VideoHandler\0".to_vec(),
                },
                minf_box: media_information(stream, table)?,
                unknown_boxes: Vec::new(),
            },
            unknown_boxes: Vec::new(),
        }],
        mvex_box: None,
        unknown_boxes: Vec::new(),
    })
}

fn track_head(format: &VideoFormat, duration: u64) -> Result<TkhdBox> {
    let side = |pixels: usize| i16::try_from(pixels).map_err(|_| MuxError::TooLarge);
    Ok(TkhdBox {
        flag_track_enabled: true,
        flag_track_in_movie: true,
        flag_track_in_preview: false,
        flag_track_size_is_aspect_ratio: false,
        creation_time: Mp4FileTime::default(),
        modification_time: Mp4FileTime::default(),
        track_id: TRACK,
        duration,
        layer: TkhdBox::DEFAULT_LAYER,
        alternate_group: TkhdBox::DEFAULT_ALTERNATE_GROUP,
        volume: TkhdBox::DEFAULT_VIDEO_VOLUME,
        matrix: TkhdBox::DEFAULT_MATRIX,
        width: FixedPointNumber::new(side(format.width())?, 0),
        height: FixedPointNumber::new(side(format.height())?, 0),
    })
}

fn media_information(stream: &Stream, table: &SampleTable<'_>) -> Result<MinfBox> {
    let samples = table.samples;
    let durations = SttsEntry {
        sample_count: number(samples.len())?,
        sample_delta: stream.format.ticks_per_frame(),
    };
    let keys = (1..).zip(samples).filter(|(_, sample)| sample.is_key);
    let keys = keys.filter_map(|(frame, _)| NonZeroU32::new(frame)).collect();
    let stbl_box = StblBox {
        stsd_box: StsdBox { entries: vec![sample_entry(stream)?] },
        stts_box: SttsBox {
            entries: if samples.is_empty() { Vec::new() } else { vec![durations] },
        },
        ctts_box: None,
        cslg_box: None,
        stsc_box: StscBox { entries: chunk_lengths(table)? },
        stsz_box: StszBox::Variable {
            entry_sizes: samples.iter().map(|sample| sample.bytes).collect(),
        },
        stco_or_co64_box: chunk_places(table)?,
        stss_box: (!samples.is_empty()).then_some(StssBox { sample_numbers: keys }),
        sdtp_box: None,
        unknown_boxes: Vec::new(),
    };
    Ok(MinfBox {
        media_header: Some(MediaHeader::Vmhd(VmhdBox {
            graphicsmode: VmhdBox::DEFAULT_GRAPHICSMODE,
            opcolor: VmhdBox::DEFAULT_OPCOLOR,
        })),
        dinf_box: DinfBox::LOCAL_FILE,
        stbl_box,
        unknown_boxes: Vec::new(),
    })
}

/// How many frames the chunks have: all alike, and the last what is left.
fn chunk_lengths(table: &SampleTable<'_>) -> Result<Vec<StscEntry>> {
    let (all, each) = (table.samples.len(), table.chunk_frames);
    let runs = [(1, each, all >= each), (all / each + 1, all % each, !all.is_multiple_of(each))];
    let runs = runs.into_iter().filter(|(_, _, is_there)| *is_there);
    runs.map(|(first_chunk, frames, _)| {
        Ok(StscEntry {
            first_chunk: NonZeroU32::new(number(first_chunk)?).unwrap_or(NonZeroU32::MIN),
            sample_per_chunk: number(frames)?,
            sample_description_index: NonZeroU32::MIN,
        })
    })
    .collect()
}

/// Where the chunks begin.
fn chunk_places(table: &SampleTable<'_>) -> Result<Either<StcoBox, Co64Box>> {
    let mut at = table.start;
    let places = table.samples.chunks(table.chunk_frames).map(|chunk| {
        let bytes: u64 = chunk.iter().map(|sample| u64::from(sample.bytes)).sum();
        let place = at;
        at += bytes;
        place
    });
    if table.is_wide {
        return Ok(Either::B(Co64Box { chunk_offsets: places.collect() }));
    }
    let narrow = |place| u32::try_from(place).map_err(|_| MuxError::TooLarge);
    Ok(Either::A(StcoBox { chunk_offsets: places.map(narrow).collect::<Result<_>>()? }))
}

fn sample_entry(stream: &Stream) -> Result<SampleEntry> {
    let side = |pixels: usize| u16::try_from(pixels).map_err(|_| MuxError::TooLarge);
    let Parameters { sequence, picture } = &stream.parameters;
    let [_, profile, compatibility, level, ..] = sequence[..] else {
        return Err(MuxError::NoParameters);
    };
    let is_plain = PLAIN_PROFILES.contains(&profile);
    Ok(SampleEntry::Avc1(Avc1Box {
        visual: VisualSampleEntryFields {
            data_reference_index: NonZeroU16::MIN,
            width: side(stream.format.width())?,
            height: side(stream.format.height())?,
            horizresolution: VisualSampleEntryFields::DEFAULT_HORIZRESOLUTION,
            vertresolution: VisualSampleEntryFields::DEFAULT_VERTRESOLUTION,
            frame_count: VisualSampleEntryFields::DEFAULT_FRAME_COUNT,
            compressorname: VisualSampleEntryFields::NULL_COMPRESSORNAME,
            depth: VisualSampleEntryFields::DEFAULT_DEPTH,
        },
        avcc_box: AvccBox {
            avc_profile_indication: profile,
            profile_compatibility: compatibility,
            avc_level_indication: level,
            length_size_minus_one: Uint::new(3),
            sps_list: vec![sequence.clone()],
            pps_list: vec![picture.clone()],
            // OpenH264 makes 4:2:0 of 8 bits only.
            chroma_format: (!is_plain).then_some(Uint::new(1)),
            bit_depth_luma_minus8: (!is_plain).then_some(Uint::new(0)),
            bit_depth_chroma_minus8: (!is_plain).then_some(Uint::new(0)),
            sps_ext_list: Vec::new(),
        },
        unknown_boxes: Vec::new(),
    }))
}

/// A count or size as MP4 holds it.
fn number(count: usize) -> Result<u32> {
    u32::try_from(count).map_err(|_| MuxError::TooLarge)
}
