//! What a clip of the demo model shows, measured on its pixels: which colour moves, and how.
//!
//! The demo model's world is small: one shape in one of eight colours follows one of six paths over
//! a still background (`tools/train_demo_model/scenes.py`). So a clip is read by asking of every
//! colour and every path of that world, "is this colour more present along this path than it
//! usually is at those places?", and by taking the best answer:
//!
//! 1. every pixel is compared with each colour under light and shade, giving a presence in 0..=1;
//! 2. the mean presence in a box, less that in the frame around it, tells how much a place looks
//!    like a blob of the colour; its mean over time is taken off, which removes the background
//!    even where it has the colour of the object;
//! 3. a path's score is the mean of that over the frames, 1 at best.
//!
//! Nothing is assumed of the shape, so soft and deformed ones are read as well; objects that leave
//! on one side and enter on the other are part of the paths.

#[cfg(test)]
mod tests;

use std::f32::consts::TAU;

/// A clip as pixels, borrowed from whatever made it.
#[derive(Clone, Copy, Debug)]
pub struct Clip<'a> {
    /// Number of frames.
    pub frames: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// frames x height x width x 3 bytes, RGB.
    pub rgb: &'a [u8],
}

/// The colours of the demo model's captions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Color {
    Red,
    Green,
    Blue,
    Yellow,
    Purple,
    Orange,
    White,
    Pink,
}

impl Color {
    /// All of them, in the order of `scenes.py`.
    pub const ALL: [Self; 8] = [
        Self::Red,
        Self::Green,
        Self::Blue,
        Self::Yellow,
        Self::Purple,
        Self::Orange,
        Self::White,
        Self::Pink,
    ];

    /// The word of the caption.
    pub fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Yellow => "yellow",
            Self::Purple => "purple",
            Self::Orange => "orange",
            Self::White => "white",
            Self::Pink => "pink",
        }
    }

    /// Red, green and blue in 0..=1, before shading.
    pub fn rgb(self) -> [f32; 3] {
        match self {
            Self::Red => [0.90, 0.15, 0.15],
            Self::Green => [0.15, 0.75, 0.25],
            Self::Blue => [0.15, 0.35, 0.95],
            Self::Yellow => [0.98, 0.85, 0.15],
            Self::Purple => [0.60, 0.20, 0.80],
            Self::Orange => [0.98, 0.55, 0.10],
            Self::White => [0.97, 0.97, 0.97],
            Self::Pink => [1.00, 0.45, 0.70],
        }
    }
}

/// The movements of the demo model's captions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Motion {
    MovingLeft,
    MovingRight,
    Bouncing,
    Circling,
    Rising,
    Falling,
}

impl Motion {
    /// All of them, in the order of `scenes.py`.
    pub const ALL: [Self; 6] = [
        Self::MovingLeft,
        Self::MovingRight,
        Self::Bouncing,
        Self::Circling,
        Self::Rising,
        Self::Falling,
    ];

    /// The words of the caption.
    pub fn name(self) -> &'static str {
        match self {
            Self::MovingLeft => "moving left",
            Self::MovingRight => "moving right",
            Self::Bouncing => "bouncing",
            Self::Circling => "circling",
            Self::Rising => "rising",
            Self::Falling => "falling",
        }
    }
}

/// How far a full-speed object moves per frame, as a part of the picture's width.
const SPEED_PER_FRAME: f32 = 0.045;

/// Objects that leave come back after this much, as a part of the width: they run from -0.15 to
/// 1.15, so that they are (almost) out of sight when they jump.
const LAP: f32 = 1.3;

/// One way through the picture, with all that a caption leaves open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// The movement.
    pub motion: Motion,
    /// Where on its way it starts: in laps, bounces or turns, 0..1.
    pub phase: f32,
    /// Speed as a multiple of the usual one.
    pub speed: f32,
    /// The coordinate that stays as it is, in parts of the picture; unused when circling.
    pub lane: f32,
}

impl Path {
    /// The object's centre in frame `frame`, x and y in parts of the picture, y downwards.
    pub fn at(&self, frame: usize) -> [f32; 2] {
        let time = frame as f32 * SPEED_PER_FRAME * self.speed;
        let forward = (self.phase * LAP + time) % LAP - 0.15;
        match self.motion {
            Motion::MovingRight => [forward, self.lane],
            Motion::MovingLeft => [1.0 - forward, self.lane],
            Motion::Falling => [self.lane, forward],
            Motion::Rising => [self.lane, 1.0 - forward],
            Motion::Bouncing => {
                let phase = (self.phase + 1.2 * time) % 1.0;
                [self.lane, 0.80 - 0.55 * (4.0 * phase * (1.0 - phase))]
            }
            Motion::Circling => {
                let (sin, cos) = (TAU * (self.phase + 0.9 * time)).sin_cos();
                [0.5 + 0.27 * cos, 0.47 + 0.25 * sin]
            }
        }
    }

    /// A fine net over all paths of one motion.
    fn all(motion: Motion) -> impl Iterator<Item = Self> {
        let phases = if matches!(motion, Motion::Circling | Motion::Bouncing) { 40 } else { 52 };
        let lanes = if motion == Motion::Circling { 1 } else { 15 };
        (0..phases).flat_map(move |phase| {
            (0..14).flat_map(move |speed| {
                (0..lanes).map(move |lane| Self {
                    motion,
                    phase: phase as f32 / phases as f32,
                    speed: 0.60 + 0.05 * speed as f32,
                    lane: 0.22 + 0.04 * lane as f32,
                })
            })
        })
    }
}

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// The colour of the moving object.
    pub color: Color,
    /// The path it follows best.
    pub path: Path,
    /// How well it is seen: about 0.5 for a clean clip, near 0 where nothing moves.
    pub score: f32,
    /// How much worse the best other colour or motion explains the clip, in the units of `score`.
    pub margin: f32,
    /// The object's centre in every frame, x and y in parts of the picture.
    pub track: Vec<[f32; 2]>,
}

/// Below this score nothing in a clip counts as a moving object.
pub const SCORE_MIN: f32 = 0.08;

/// Finds the object that moves in `clip`; `None` if none of the demo model's colours moves along
/// any of its paths.
///
/// Made for about 33 frames. With fewer than about 20, a bounce can look like a rise or a fall.
///
/// # Panics
/// If `clip.rgb` does not have the stated size, or has no pixels.
pub fn look(clip: Clip<'_>) -> Option<Sighting> {
    assert_eq!(clip.rgb.len(), clip.frames * clip.height * clip.width * 3, "size of the clip");
    assert!(!clip.rgb.is_empty(), "the clip has pixels");
    let blobs = Color::ALL.map(|color| BlobMaps::of(clip, color));
    let mut answers = Vec::new();
    for motion in Motion::ALL {
        let mut best: [Option<(f32, Path)>; 8] = [None; 8];
        for path in Path::all(motion) {
            let places: Vec<usize> = (0..clip.frames).map(|frame| place_of(&path, frame)).collect();
            for (best, blobs) in best.iter_mut().zip(&blobs) {
                let score = blobs.score(&places);
                if best.is_none_or(|(other, _)| score > other) {
                    *best = Some((score, path));
                }
            }
        }
        for (color, best) in Color::ALL.into_iter().zip(best) {
            answers.extend(best.map(|(score, path)| (score, color, path)));
        }
    }
    answers.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    let &(score, color, path) = answers.first()?;
    let margin = score - answers.get(1)?.0;
    let track = (0..clip.frames).map(|frame| path.at(frame)).collect();
    (score >= SCORE_MIN).then_some(Sighting { color, path, score, margin, track })
}

/// Places per side at which blobs are looked for. They cover -0.2..1.2 of the picture, since
/// objects half outside are still seen.
const PLACES: usize = 48;

/// Half the side of the box that an object fills, and of the frame around it, in parts of the
/// picture. Objects have a radius of 0.11 or 0.19.
const BOX: f32 = 0.11;
const SURROUND: f32 = 0.26;

/// Part of the picture at which place `index` lies.
fn place(index: usize) -> f32 {
    -0.2 + 1.4 * index as f32 / (PLACES - 1) as f32
}

/// The place, row by row, that `path` visits in frame `frame`.
fn place_of(path: &Path, frame: usize) -> usize {
    let nearest = |position: f32| {
        let index = (position + 0.2) / 1.4 * (PLACES - 1) as f32;
        index.round().clamp(0.0, (PLACES - 1) as f32) as usize
    };
    let [x, y] = path.at(frame).map(nearest);
    y * PLACES + x
}

/// How much each place looks like a blob of one colour that is not always there.
struct BlobMaps {
    frames: usize,
    /// frames x PLACES x PLACES.
    values: Vec<f32>,
}

impl BlobMaps {
    fn of(clip: Clip<'_>, color: Color) -> Self {
        let shades = shades(color);
        let mut values = Vec::with_capacity(clip.frames * PLACES * PLACES);
        for frame in clip.rgb.chunks_exact(clip.height * clip.width * 3) {
            let presence = frame.chunks_exact(3).map(|pixel| presence(pixel, &shades));
            let sums = AreaSums::new(clip.height, clip.width, presence);
            for y in 0..PLACES {
                for x in 0..PLACES {
                    values.push(sums.blob(place(y), place(x)));
                }
            }
        }
        let mut maps = Self { frames: clip.frames, values };
        maps.subtract_mean_over_time();
        maps
    }

    fn subtract_mean_over_time(&mut self) {
        for place in 0..PLACES * PLACES {
            let one_place = || (0..self.frames).map(|frame| frame * PLACES * PLACES + place);
            let sum: f32 = one_place().map(|index| self.values[index]).sum();
            let mean = sum / self.frames as f32;
            for index in (0..self.frames).map(|frame| frame * PLACES * PLACES + place) {
                self.values[index] -= mean;
            }
        }
    }

    /// Mean over the frames of the value at the place of each frame.
    fn score(&self, places: &[usize]) -> f32 {
        let maps = self.values.chunks_exact(PLACES * PLACES);
        maps.zip(places).map(|(map, &place)| map[place]).sum::<f32>() / self.frames as f32
    }
}

/// The colour from its dark to its light side, as `scenes.py` shades objects.
fn shades(color: Color) -> [[f32; 3]; 6] {
    [0.70, 0.82, 0.94, 1.06, 1.18, 1.30].map(|light| color.rgb().map(|c| (c * light).min(1.0)))
}

/// How much a pixel has the colour: 1 for one of its `shades`, falling to 0.37 at a distance of
/// 0.15 in RGB.
fn presence(pixel: &[u8], shades: &[[f32; 3]]) -> f32 {
    let squared = |shade: &[f32; 3]| -> f32 {
        shade.iter().zip(pixel).map(|(s, &p)| (s - f32::from(p) / 255.0).powi(2)).sum()
    };
    let nearest = shades.iter().map(squared).fold(f32::INFINITY, f32::min);
    (-nearest / 0.15_f32.powi(2)).exp()
}

/// Sums over any rectangle of a picture in four look-ups (a summed-area table).
struct AreaSums {
    height: usize,
    width: usize,
    /// (height + 1) x (width + 1): sums over all that lies above and to the left.
    sums: Vec<f32>,
}

impl AreaSums {
    fn new(height: usize, width: usize, mut values: impl Iterator<Item = f32>) -> Self {
        let mut sums = vec![0.0; (height + 1) * (width + 1)];
        for y in 1..=height {
            let mut row = 0.0;
            for x in 1..=width {
                row += values.next().unwrap_or(0.0);
                sums[y * (width + 1) + x] = sums[(y - 1) * (width + 1) + x] + row;
            }
        }
        Self { height, width, sums }
    }

    /// Mean in the box around a centre less the mean in the frame around the box, both counted as
    /// if there were nothing outside the picture.
    fn blob(&self, y: f32, x: f32) -> f32 {
        let (inner, inner_area) = self.rectangle(y, x, BOX);
        let (outer, outer_area) = self.rectangle(y, x, SURROUND);
        inner / inner_area - (outer - inner) / (outer_area - inner_area)
    }

    /// Sum inside a square of half side `half` (parts of the picture), and its whole area in
    /// pixels, also what lies outside.
    fn rectangle(&self, y: f32, x: f32, half: f32) -> (f32, f32) {
        let edge = |at: f32, length: usize| {
            (at * length as f32).round().clamp(0.0, length as f32) as usize
        };
        let (top, bottom) = (edge(y - half, self.height), edge(y + half, self.height));
        let (left, right) = (edge(x - half, self.width), edge(x + half, self.width));
        let corner = |y: usize, x: usize| self.sums[y * (self.width + 1) + x];
        let sum =
            corner(bottom, right) + corner(top, left) - corner(top, right) - corner(bottom, left);
        (sum, (2.0 * half).powi(2) * (self.height * self.width) as f32)
    }
}
