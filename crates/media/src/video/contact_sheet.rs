//! A contact sheet: a few frames of a clip side by side in one PNG.

use std::io::BufReader;
use std::path::Path;

use wan_border::files;
use wan_border::numbers::u32_of;

use super::frames::VideoFrames;
use crate::error::{Error, Result};

/// Colour between the pictures: a grey for light and dark pages.
const GAP_GREY: u8 = 128;

/// The text of a PNG that says what made it.
const KEYWORD: &str = "Software";
const PROGRAM: &str = "wan";

/// The text of a preview that says what it is.
const PREVIEW: (&str, &str) = ("Title", "preview of a run");

/// The layout of a contact sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SheetLayout {
    /// Pictures in a row; 0: all in one row.
    pub columns: usize,
    /// Side of the square that each pixel becomes. 0 counts as 1.
    pub scale: usize,
    /// Pixels between two pictures.
    pub gap: usize,
}

impl Default for SheetLayout {
    fn default() -> Self {
        Self { columns: 0, scale: 2, gap: 4 }
    }
}

/// Numbers of at most `count` frames, evenly spaced from the first to the last.
pub fn evenly_spaced(frames: &VideoFrames, count: usize) -> Vec<usize> {
    spread(frames.frames(), count)
}

/// Numbers of at most `count` of `frames` frames, evenly spaced from the first to the last.
pub fn spread(frames: usize, count: usize) -> Vec<usize> {
    let shown = frames.min(count);
    (0..shown).map(|i| i * (frames - 1) / (shown - 1).max(1)).collect()
}

/// Collects the frames of a contact sheet while all frames of a clip pass by; it holds no others.
///
/// The sheet is that of [`encode_png_sheet`] with the frames of [`evenly_spaced`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SheetFrames {
    width: usize,
    height: usize,
    /// Numbers of the frames that are shown, rising.
    shown: Vec<usize>,
    /// How many frames have passed.
    passed: usize,
    /// Those shown frames that have passed, height x width x 3 bytes each.
    rgb: Vec<u8>,
}

impl SheetFrames {
    /// For a clip of `frames` frames of `size`, width and height in pixels, of which at most
    /// `count` are shown.
    pub fn new(size: (usize, usize), frames: usize, count: usize) -> Self {
        let (width, height) = size;
        Self { width, height, shown: spread(frames, count), passed: 0, rgb: Vec::new() }
    }

    /// The frames that were collected so far, each of height x width x 3 bytes, so that a run that
    /// was stopped can go on: [`Self::go_on`].
    pub fn collected(&self) -> &[u8] {
        &self.rgb
    }

    /// As if `passed` frames had passed of which `collected` were kept.
    ///
    /// # Errors
    /// [`Error::Shape`] unless these are as many as are shown of so many.
    pub fn go_on(&mut self, passed: usize, collected: Vec<u8>) -> Result<()> {
        let kept = self.shown.iter().filter(|shown| **shown < passed).count();
        let (width, height, bytes) = (self.width, self.height, collected.len());
        if kept.checked_mul(self.frame_bytes()) != Some(bytes) {
            return Err(Error::Shape { width, height, bytes });
        }
        (self.passed, self.rgb) = (passed, collected);
        Ok(())
    }

    /// How many frames are shown.
    pub fn shown(&self) -> usize {
        self.shown.len()
    }

    /// The next frame passes: height x width x 3 bytes of RGB.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not one frame of this size.
    pub fn push(&mut self, rgb: &[u8]) -> Result<()> {
        let (width, height, bytes) = (self.width, self.height, rgb.len());
        if bytes != self.frame_bytes() {
            return Err(Error::Shape { width, height, bytes });
        }
        if self.shown.binary_search(&self.passed).is_ok() {
            self.rgb.extend(rgb);
        }
        self.passed += 1;
        Ok(())
    }

    /// The bytes of the PNG.
    ///
    /// # Errors
    /// [`Error::NoSuchFrame`] if a shown frame has not passed, [`Error::Shape`] if none has.
    pub fn finish(self, layout: SheetLayout) -> Result<Vec<u8>> {
        if let Some(&index) = self.shown.iter().find(|index| **index >= self.passed) {
            return Err(Error::NoSuchFrame { index, last: self.passed.saturating_sub(1) });
        }
        let frames = VideoFrames::new(self.width, self.height, self.rgb)?;
        encode_png_sheet(&frames, &(0..frames.frames()).collect::<Vec<_>>(), layout)
    }

    fn frame_bytes(&self) -> usize {
        self.width.saturating_mul(self.height).saturating_mul(3)
    }
}

/// The bytes of one RGB PNG with the frames numbered `indices`, from 0, in that order.
///
/// # Errors
/// [`Error::NoSuchFrame`] for an index past the end.
pub fn encode_png_sheet(
    frames: &VideoFrames,
    indices: &[usize],
    layout: SheetLayout,
) -> Result<Vec<u8>> {
    let last = frames.frames() - 1;
    if let Some(&index) = indices.iter().find(|&&index| index > last) {
        return Err(Error::NoSuchFrame { index, last });
    }
    encode(draw_sheet(frames, indices, layout), png::Compression::High, &[(KEYWORD, PROGRAM)])
}

/// The bytes of one RGB PNG with all frames, encoded quickly, that says that it is a preview.
///
/// # Errors
/// [`Error::Png`] if it cannot be encoded.
pub fn encode_png_preview(frames: &VideoFrames, layout: SheetLayout) -> Result<Vec<u8>> {
    let all: Vec<usize> = (0..frames.frames()).collect();
    let texts = [(KEYWORD, PROGRAM), PREVIEW];
    encode(draw_sheet(frames, &all, layout), png::Compression::Fast, &texts)
}

fn encode(
    (width, height, rgb): (usize, usize, Vec<u8>),
    compression: png::Compression,
    texts: &[(&str, &str)],
) -> Result<Vec<u8>> {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, u32_of(width), u32_of(height));
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(compression);
    for (keyword, text) in texts {
        encoder.add_text_chunk((*keyword).into(), (*text).into())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    writer.finish()?;
    Ok(png)
}

/// Whether a file is a sheet that [`encode_png_sheet`] made, or a preview.
pub fn is_png_sheet(path: &Path) -> bool {
    has_texts(path, &[(KEYWORD, PROGRAM)])
}

/// Whether a file is a preview that [`encode_png_preview`] made.
pub fn is_png_preview(path: &Path) -> bool {
    has_texts(path, &[(KEYWORD, PROGRAM), PREVIEW])
}

fn has_texts(path: &Path, wanted: &[(&str, &str)]) -> bool {
    let Ok((file, _)) = files::open(path) else { return false };
    png::Decoder::new(BufReader::new(file)).read_info().is_ok_and(|reader| {
        let texts = &reader.info().uncompressed_latin1_text;
        let has = |wanted: &(&str, &str)| {
            texts.iter().any(|text| (text.keyword.as_str(), text.text.as_str()) == *wanted)
        };
        wanted.iter().all(has)
    })
}

/// Width, height and pixels (height x width x 3) of the sheet.
fn draw_sheet(
    frames: &VideoFrames,
    indices: &[usize],
    layout: SheetLayout,
) -> (usize, usize, Vec<u8>) {
    let scale = layout.scale.max(1);
    let columns = if layout.columns == 0 { indices.len() } else { layout.columns };
    let columns = columns.min(indices.len()).max(1);
    let rows = indices.len().div_ceil(columns).max(1);
    let (cell_width, cell_height) = (frames.width() * scale, frames.height() * scale);
    let width = columns * cell_width + (columns - 1) * layout.gap;
    let height = rows * cell_height + (rows - 1) * layout.gap;
    let mut rgb = vec![GAP_GREY; width * height * 3]; // (height, width, 3)
    for (place, &index) in indices.iter().enumerate() {
        let left = place % columns * (cell_width + layout.gap);
        let top = place / columns * (cell_height + layout.gap);
        let frame = frames.frame(index);
        for y in 0..cell_height {
            let row = &frame[y / scale * frames.width() * 3..][..frames.width() * 3];
            let start = ((top + y) * width + left) * 3;
            let target = rgb[start..start + cell_width * 3].chunks_exact_mut(3);
            let source = row.chunks_exact(3).flat_map(|pixel| std::iter::repeat_n(pixel, scale));
            target.zip(source).for_each(|(to, from)| to.copy_from_slice(from));
        }
    }
    (width, height, rgb)
}
