//! Where the numbers of a format are, and what has to fit again after a change.

use std::ops::Range;

use serde_json::Value;

use crate::json;
use crate::pickles::Torch;
use crate::sites;
use crate::tensors::{self, Tensors};
use wan_tests::dice::Dice;

/// The form of a file, as far as the mutator knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    /// A document in JSON on each line.
    JsonLines,
    /// Lines of words and numbers.
    Text,
    Safetensors,
    /// Safetensors whose names are the keys of a LoRA.
    Lora,
    /// Safetensors of 8-bit weights with factors.
    Scaled,
    Gguf,
    /// A zip file with a pickle.
    Torch,
    Protobuf,
    Mp4,
    Png,
    Jpeg,
    Webp,
}

impl Format {
    /// How many times the file a reader may allocate, beside [`ROOM`](crate::worker::ROOM).
    pub(crate) fn times_allowed(self) -> usize {
        match self {
            Self::Lora | Self::Scaled | Self::Gguf | Self::Torch | Self::Protobuf => 1,
            _ => 4,
        }
    }
}

/// The member of a safetensors header that is no tensor.
const METADATA: &str = "__metadata__";

/// A whole number in a file.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) place: Range<usize>,
    pub(crate) big_endian: bool,
}

/// The numbers that say how long something is, or how many there are.
pub(crate) fn sites(format: Format, bytes: &[u8]) -> Vec<Site> {
    match format {
        Format::Safetensors | Format::Lora | Format::Scaled => {
            vec![Site { place: 0..8.min(bytes.len()), big_endian: false }]
        }
        Format::Gguf => sites::gguf(bytes),
        Format::Protobuf => sites::protobuf(bytes, 0..bytes.len()),
        Format::Mp4 => mp4_sites(bytes, 0..bytes.len()),
        Format::Png => chunks(bytes, 8, true).into_iter().flat_map(png_sites).collect(),
        Format::Webp => chunks(bytes, 12, false).into_iter().flat_map(webp_sites).collect(),
        Format::Jpeg => jpeg_sites(bytes),
        Format::Json | Format::JsonLines | Format::Text | Format::Torch => Vec::new(),
    }
}

/// Boxes that hold boxes.
const CONTAINERS: [&[u8; 4]; 10] =
    [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"edts", b"dinf", b"ilst", b"meta"];

/// Sizes of boxes, and the words of those that hold none.
fn mp4_sites(bytes: &[u8], within: Range<usize>) -> Vec<Site> {
    let (mut sites, mut at) = (Vec::new(), within.start);
    while at + 8 <= within.end {
        let size = u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let name = [bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]];
        let end = at.saturating_add(size as usize).clamp(at + 8, within.end);
        sites.push(Site { place: at..at + 4, big_endian: true });
        if CONTAINERS.contains(&&name) {
            let skipped = if &name == b"meta" { 12 } else { 8 };
            sites.extend(mp4_sites(bytes, (at + skipped).min(end)..end));
        } else if &name != b"mdat" {
            let words = (at + 8..end.saturating_sub(3)).step_by(4).take(64);
            sites.extend(words.map(|word| Site { place: word..word + 4, big_endian: true }));
        }
        at = end;
    }
    sites
}

/// A chunk of a PNG or WebP file: where it begins, and where the next does.
fn chunks(bytes: &[u8], first: usize, is_png: bool) -> Vec<Range<usize>> {
    let (mut chunks, mut at) = (Vec::new(), first);
    while at + 8 <= bytes.len() {
        let length = if is_png { &bytes[at..at + 4] } else { &bytes[at + 4..at + 8] };
        let length = [length[0], length[1], length[2], length[3]];
        let length =
            if is_png { u32::from_be_bytes(length) } else { u32::from_le_bytes(length) } as usize;
        let around = if is_png { 12 } else { 8 + length % 2 };
        let end = at.saturating_add(length).saturating_add(around).min(bytes.len());
        chunks.push(at..end);
        at = end;
    }
    chunks
}

fn png_sites(chunk: Range<usize>) -> Vec<Site> {
    let words = [0, 8, 12].map(|offset| chunk.start + offset).into_iter();
    let inside = words.filter(|start| start + 4 <= chunk.end);
    inside.map(|start| Site { place: start..start + 4, big_endian: true }).collect()
}

fn webp_sites(chunk: Range<usize>) -> Vec<Site> {
    let words = [4, 8, 12, 16].map(|offset| chunk.start + offset).into_iter();
    let inside = words.filter(|start| start + 4 <= chunk.end);
    inside.map(|start| Site { place: start..start + 4, big_endian: false }).collect()
}

/// Lengths of segments, and the sides of the picture.
fn jpeg_sites(bytes: &[u8]) -> Vec<Site> {
    let (mut sites, mut at) = (Vec::new(), 2);
    while at + 4 <= bytes.len() && bytes[at] == 0xff {
        let word = |start: usize| Site { place: start..start + 2, big_endian: true };
        sites.push(word(at + 2));
        if matches!(bytes[at + 1], 0xc0..=0xc2) && at + 9 <= bytes.len() {
            sites.extend([word(at + 5), word(at + 7)]);
        }
        if bytes[at + 1] == 0xda {
            break;
        }
        at += 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
    }
    sites
}

/// Makes fit again what a change would else be refused for at once. Now and then it is left.
pub(crate) fn repair(format: Format, bytes: &mut [u8], dice: &mut Dice) {
    if format == Format::Png && !dice.one_in(8) {
        for chunk in chunks(bytes, 8, true) {
            if chunk.len() >= 12 {
                let sum = crc32(&bytes[chunk.start + 4..chunk.end - 4]);
                bytes[chunk.end - 4..chunk.end].copy_from_slice(&sum.to_be_bytes());
            }
        }
    }
}

/// The sum of a PNG chunk (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }
        })
    })
}

/// What of a file is a document: JSON, or parts that have to fit each other. It is taken apart
/// once, and changed very often.
pub(crate) enum Document {
    Whole(Value),
    /// One on each line.
    Lines(Vec<Value>),
    /// The header of a safetensors file, the documents that members of its metadata are, by name,
    /// and the bytes behind it.
    Header {
        header: Value,
        inner: Vec<(String, Value)>,
        data: Vec<u8>,
    },
    /// The tensors of a safetensors file, which fit again after every change.
    Tensors(Tensors),
    Torch(Torch),
}

impl Document {
    /// That of a file; none where it has none, or is no JSON.
    pub(crate) fn of(format: Format, bytes: &[u8]) -> Option<Self> {
        match format {
            Format::Json => Some(Self::Whole(serde_json::from_slice(bytes).ok()?)),
            Format::JsonLines => {
                let lines = std::str::from_utf8(bytes).ok()?.lines().map(serde_json::from_str);
                Some(Self::Lines(lines.collect::<Result<_, _>>().ok()?))
            }
            Format::Safetensors => Self::of_safetensors(bytes),
            Format::Lora => Tensors::of(bytes, tensors::LORA).map(Self::Tensors),
            Format::Scaled => Tensors::of(bytes, tensors::SCALED).map(Self::Tensors),
            Format::Torch => Torch::of(bytes).map(Self::Torch),
            _ => None,
        }
    }

    fn of_safetensors(bytes: &[u8]) -> Option<Self> {
        let (prefix, rest) = bytes.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*prefix)).ok()?;
        let (header, data) = rest.split_at_checked(length)?;
        let header: Value = serde_json::from_slice(header).ok()?;
        let parsed = |(name, text): (&String, &Value)| {
            Some((name.clone(), serde_json::from_str(text.as_str()?).ok()?))
        };
        let metadata = header.get(METADATA).and_then(Value::as_object);
        let inner = metadata.into_iter().flatten().filter_map(parsed).collect();
        Some(Self::Header { header, inner, data: data.to_vec() })
    }

    /// The file with its document changed so many times.
    pub(crate) fn changed(&self, times: usize, dice: &mut Dice) -> Vec<u8> {
        match self {
            Self::Whole(document) => json::changed(document, times, dice).into_bytes(),
            Self::Lines(lines) => {
                let mut texts: Vec<String> = lines.iter().map(Value::to_string).collect();
                let which = dice.below(lines.len());
                if let (Some(text), Some(line)) = (texts.get_mut(which), lines.get(which)) {
                    *text = json::changed(line, times, dice);
                }
                texts.join("\n").into_bytes()
            }
            Self::Tensors(tensors) => tensors.changed(times, dice),
            Self::Torch(torch) => torch.changed(times, dice),
            Self::Header { header, inner, data } => {
                let header = changed_header((header, inner), times, dice);
                // Its length fits, but now and then.
                let length = header.len() + usize::from(dice.one_in(20)) * dice.below(64);
                [&(length as u64).to_le_bytes(), header.as_bytes(), data].concat()
            }
        }
    }
}

/// A header, or a document in its metadata, changed so many times.
fn changed_header(
    (header, inner): (&Value, &[(String, Value)]),
    times: usize,
    dice: &mut Dice,
) -> String {
    let of_inner = if inner.is_empty() { 0 } else { (0..times).filter(|_| dice.one_in(2)).count() };
    if of_inner == 0 {
        return json::changed(header, times, dice);
    }
    let (name, document) = dice.pick(inner);
    let text = json::changed(document, of_inner, dice);
    let mut header = header.clone();
    header[METADATA][name] = text.into();
    if of_inner == times {
        header.to_string()
    } else {
        json::changed(&header, times - of_inner, dice)
    }
}
