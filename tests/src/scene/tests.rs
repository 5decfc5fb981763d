//! Clips drawn here, like those of `scenes.py`, must be read as drawn; a clip the demo model
//! really made, as its prompt says.

use super::*;
use crate::checkout::checkout;

const FRAMES: usize = 33;
const SIDE: usize = 64;

/// A row of numbers that look random and are the same on every run.
struct Dice(u64);

impl Dice {
    /// The next number in 0..1.
    fn roll(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 40) as f32 / (1_u64 << 24) as f32
    }
}

/// Sky, horizon and ground of meadow, desert, ocean and night city.
const SCENES: [[[f32; 3]; 3]; 4] = [
    [[0.45, 0.70, 0.95], [0.80, 0.90, 1.00], [0.30, 0.60, 0.25]],
    [[0.95, 0.60, 0.35], [1.00, 0.85, 0.60], [0.80, 0.65, 0.40]],
    [[0.55, 0.80, 0.95], [0.90, 0.95, 1.00], [0.10, 0.35, 0.55]],
    [[0.03, 0.03, 0.12], [0.15, 0.10, 0.30], [0.10, 0.10, 0.14]],
];

/// The background at a point: a sky that brightens to the horizon, ground, and the hill, sun,
/// waves or lit windows of the scene.
fn background(scene: usize, x: f32, y: f32) -> [f32; 3] {
    let [top, horizon, ground] = SCENES[scene];
    let below = y > 0.62;
    let extra = match scene {
        0 if !below && y > 0.585 - 0.035 * (TAU * x).sin() => Some([0.22, 0.50, 0.22]),
        1 if (x - 0.6).hypot(y - 0.2) < 0.09 => Some([1.0, 0.97, 0.8]),
        2 if below && (y * 9.0).fract() < 0.5 => Some(ground.map(|c| c + 0.1)),
        3 if !below && y > 0.35 && (x * 16.0).fract() < 0.5 && (y * 11.0).fract() < 0.5 => {
            Some([0.95, 0.85, 0.45])
        }
        _ => None,
    };
    let sky = [0, 1, 2].map(|c| top[c] + (horizon[c] - top[c]) * (y / 0.62).min(1.0));
    extra.unwrap_or(if below { ground } else { sky })
}

/// How far a point is outside (positive) or inside a ball, box, triangle or star of radius `r`.
fn distance(shape: usize, x: f32, y: f32, r: f32) -> f32 {
    match shape {
        0 => x.hypot(y) - r,
        1 => x.abs().max(y.abs()) - 0.85 * r,
        2 => (0.866 * x.abs() - y / 2.0).max(y) - 0.5 * r,
        _ => x.hypot(y) - 1.1 * r * (0.68 + 0.32 * (5.0 * x.atan2(-y)).cos()),
    }
}

/// Draws a clip with soft edges and noise: frames x height x width x 3 bytes.
fn draw(color: Color, path: &Path, scene: usize, shape: usize, radius: f32) -> Vec<u8> {
    let mut dice = Dice(scene as u64 * 7 + shape as u64);
    let mut rgb = Vec::with_capacity(FRAMES * SIDE * SIDE * 3);
    for frame in 0..FRAMES {
        let [centre_x, centre_y] = path.at(frame);
        for index in 0..SIDE * SIDE {
            let x = ((index % SIDE) as f32 + 0.5) / SIDE as f32;
            let y = ((index / SIDE) as f32 + 0.5) / SIDE as f32;
            let (dx, dy) = (x - centre_x, y - centre_y);
            // An edge eight pixels wide, about as soft as the demo model's VAE makes it.
            let cover = (0.5 - distance(shape, dx, dy, radius) * 8.0).clamp(0.0, 1.0);
            let light = 1.0 - 0.35 * ((dx + dy) / (2.0 * radius)).clamp(-1.0, 1.0);
            let noise = 0.16 * (dice.roll() - 0.5);
            for (behind, own) in background(scene, x, y).into_iter().zip(color.rgb()) {
                let value = behind * (1.0 - cover) + (own * light).min(1.0) * cover + noise;
                rgb.push((value.clamp(0.0, 1.0) * 255.0) as u8);
            }
        }
    }
    rgb
}

fn look_at(rgb: &[u8]) -> Option<Sighting> {
    look(Clip { frames: FRAMES, height: SIDE, width: SIDE, rgb })
}

fn random_path(motion: Motion, dice: &mut Dice) -> Path {
    Path {
        motion,
        phase: dice.roll(),
        speed: 0.85 + 0.3 * dice.roll(),
        lane: 0.3 + 0.4 * dice.roll(),
    }
}

#[test]
fn every_color_and_motion_is_recognised() {
    let mut dice = Dice(3);
    let mut place = 0;
    for color in Color::ALL {
        for motion in Motion::ALL {
            // Scenes and shapes take turns at different paces, so that all pairs occur.
            let (scene, shape) = (place % 4, place / 4 % 4);
            place += 1;
            let path = random_path(motion, &mut dice);
            let seen = look_at(&draw(color, &path, scene, shape, 0.19));
            let seen = seen.expect("a moving object");
            let what = (seen.color, seen.path.motion);
            assert_eq!(what, (color, motion), "scene {scene}, shape {shape}: {seen:?}");
            assert!(seen.margin > 0.05, "{color:?} {motion:?}: {}", seen.margin);
        }
    }
}

#[test]
fn the_track_follows_the_object() {
    let path = Path { motion: Motion::Circling, phase: 0.3, speed: 1.07, lane: 0.5 };
    let seen = look_at(&draw(Color::Blue, &path, 1, 0, 0.19)).expect("a moving object");
    for (frame, seen) in seen.track.iter().enumerate() {
        let drawn = path.at(frame);
        assert!((seen[0] - drawn[0]).hypot(seen[1] - drawn[1]) < 0.08, "frame {frame}");
    }
}

#[test]
fn objects_that_leave_and_come_back_keep_their_direction() {
    // It leaves in the middle of the clip.
    let path = Path { motion: Motion::MovingLeft, phase: 0.5, speed: 1.0, lane: 0.5 };
    let seen = look_at(&draw(Color::Green, &path, 0, 3, 0.19)).expect("a moving object");
    assert_eq!((seen.color, seen.path.motion), (Color::Green, Motion::MovingLeft));
}

#[test]
fn nothing_moves_in_noise_or_stillness() {
    let mut dice = Dice(9);
    let noise: Vec<u8> =
        (0..FRAMES * SIDE * SIDE * 3).map(|_| (dice.roll() * 256.0) as u8).collect();
    assert_eq!(look_at(&noise), None);
    let away = Path { motion: Motion::MovingLeft, phase: 0.0, speed: 0.0, lane: 5.0 };
    for scene in 0..SCENES.len() {
        assert_eq!(look_at(&draw(Color::Red, &away, scene, 0, 0.19)), None);
    }
    // There, but still: in the picture, and not moving.
    let still = Path { motion: Motion::MovingLeft, phase: 0.5, speed: 0.0, lane: 0.5 };
    assert_eq!(look_at(&draw(Color::Red, &still, 0, 0, 0.19)), None);
}

#[test]
fn the_shipped_clip_shows_its_prompt() {
    let path = checkout().join("demo-model/reference.safetensors");
    let file = std::fs::read(path).expect("the demo model is in the repository");
    let tensors = safetensors::SafeTensors::deserialize(&file).expect("safetensors");
    let video = tensors.tensor("video").expect("the decoded frames"); // (3, frames, height, width)
    let &[3, frames, height, width] = video.shape() else { panic!("{:?}", video.shape()) };
    let planes: Vec<&[u8]> = video.data().chunks_exact(frames * height * width).collect();
    let rgb: Vec<u8> = (0..frames * height * width)
        .flat_map(|index| [0, 1, 2].map(|channel| planes[channel][index]))
        .collect(); // (frames, height, width, 3)
    let seen = look(Clip { frames, height, width, rgb: &rgb }).expect("a moving object");
    assert_eq!((seen.color.name(), seen.path.motion.name()), ("red", "moving right"));
    assert!(seen.margin > 0.1, "{seen:?}");
}
