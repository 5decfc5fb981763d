//! A contact sheet: a few frames of a clip side by side in one PNG.

use std::io::BufReader;
use std::path::Path;

use wan_border::files;
use wan_border::numbers::u32_of;

use super::VideoFrames;
use crate::error::{Error, Result};

/// Colour between the pictures: a grey for light and dark pages.
const GAP_GREY: u8 = 128;

/// The text of a PNG that says what made it.
const KEYWORD: &str = "Software";
const PROGRAM: &str = "wan";

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
    let shown = frames.frames().min(count);
    (0..shown).map(|i| i * (frames.frames() - 1) / (shown - 1).max(1)).collect()
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
    let (width, height, rgb) = draw_sheet(frames, indices, layout);
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, u32_of(width), u32_of(height));
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    encoder.add_text_chunk(KEYWORD.into(), PROGRAM.into())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    writer.finish()?;
    Ok(png)
}

/// Whether a file is a sheet that [`encode_png_sheet`] made.
pub fn is_png_sheet(path: &Path) -> bool {
    let Ok((file, _)) = files::open(path) else { return false };
    png::Decoder::new(BufReader::new(file)).read_info().is_ok_and(|reader| {
        let texts = &reader.info().uncompressed_latin1_text;
        texts.iter().any(|text| (text.keyword.as_str(), text.text.as_str()) == (KEYWORD, PROGRAM))
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
