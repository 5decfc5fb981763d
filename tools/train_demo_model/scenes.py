"""Captioned clips, drawn: one coloured shape moves over a still background.

Pure numpy and seeded. Positions are parts of the picture (x to the right, y downwards), colours are
0..1, and time is counted in frames of `SPEED` each. Run as a program it writes a few clips as one
PPM picture, to look at.
"""

import argparse
import dataclasses
import itertools

import numpy as np

COLORS = {
    "red": (0.90, 0.15, 0.15),
    "green": (0.15, 0.75, 0.25),
    "blue": (0.15, 0.35, 0.95),
    "yellow": (0.98, 0.85, 0.15),
    "purple": (0.60, 0.20, 0.80),
    "orange": (0.98, 0.55, 0.10),
    "white": (0.97, 0.97, 0.97),
    "pink": (1.00, 0.45, 0.70),
}
SHAPES = ("ball", "box", "star", "triangle")
MOTIONS = ("moving left", "moving right", "bouncing", "circling", "rising", "falling")
SIZES = {"small": 0.11, "big": 0.19}
# Sky at the top, sky at the horizon, ground.
SCENES = {
    "meadow": ((0.45, 0.70, 0.95), (0.80, 0.90, 1.00), (0.30, 0.60, 0.25)),
    "desert": ((0.95, 0.60, 0.35), (1.00, 0.85, 0.60), (0.80, 0.65, 0.40)),
    "ocean": ((0.55, 0.80, 0.95), (0.90, 0.95, 1.00), (0.10, 0.35, 0.55)),
    "night city": ((0.03, 0.03, 0.12), (0.15, 0.10, 0.30), (0.10, 0.10, 0.14)),
}
HORIZON = 0.62
SPEED = 0.045  # of the width, per frame


@dataclasses.dataclass(frozen=True)
class Caption:
    """What a clip shows; `str()` of it is the text the model learns."""

    size: str
    color: str
    shape: str
    motion: str
    scene: str

    def __str__(self):
        return f"a {self.size} {self.color} {self.shape} {self.motion} over a {self.scene}"

    @classmethod
    def draw(cls, rng):
        """A caption chosen at random."""
        pick = lambda choices: str(rng.choice(list(choices)))
        return cls(pick(SIZES), pick(COLORS), pick(SHAPES), pick(MOTIONS), pick(SCENES))


def pixel_centres(count):
    return (np.arange(count) + 0.5) / count


def background(scene, height, width, rng):
    """The still picture behind the object: height x width x 3, float32."""
    top, horizon, ground = (np.array(color) for color in SCENES[scene])
    x, y = pixel_centres(width)[None], pixel_centres(height)[:, None]
    fade = (y / HORIZON).clip(0, 1)[..., None]
    picture = np.repeat(top * (1 - fade) + horizon * fade, width, axis=1)
    below = np.broadcast_to(y > HORIZON, (height, width))
    depth = ((y - HORIZON) / (1 - HORIZON)).clip(0, 1)[..., None]
    shaded_ground = np.broadcast_to(ground * (0.75 + 0.25 * depth), picture.shape)
    picture[below] = shaded_ground[below]
    {"meadow": add_hill, "desert": add_sun, "ocean": add_waves, "night city": add_houses}[scene](
        picture, x, y, below, rng
    )
    return picture.clip(0, 1).astype(np.float32)


def add_hill(picture, x, y, below, rng):
    ridge = HORIZON - 0.07 * (1 + np.sin(2 * np.pi * (x + rng.random()))) / 2
    picture[(y > ridge) & ~below] = (0.22, 0.50, 0.22)


def add_sun(picture, x, y, below, rng):
    centre = rng.uniform(0.2, 0.8)
    picture[(x - centre) ** 2 + (y - 0.2) ** 2 < 0.09**2] = (1.0, 0.97, 0.8)


def add_waves(picture, x, y, below, rng):
    swell = 0.35 * np.sin(2 * np.pi * (x * 2 + rng.random()))
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * (y * 9 + swell))
    picture[below] += 0.10 * wave[below][:, None]


def add_houses(picture, x, y, below, rng):
    count = 8
    for house in range(count):
        roof = HORIZON - rng.uniform(0.12, 0.40)
        across = (x >= house / count) & (x < (house + 0.85) / count)
        front = across & (y > roof) & (y <= HORIZON)
        picture[front] = np.array((0.08, 0.08, 0.11)) + 0.03 * rng.random()
        lit = ((y * 11) % 1 < 0.5) & ((x * count * 2) % 1 < 0.5)
        picture[front & lit] = (0.95, 0.85, 0.45)


def path(motion, frames, rng):
    """The object's centre in every frame: two arrays, x and y."""
    phase, pace = rng.random(), rng.uniform(0.85, 1.15)
    time = np.arange(frames) * SPEED * pace
    lane_y, lane_x = rng.uniform(0.30, 0.70), rng.uniform(0.25, 0.75)
    # Leaves the picture on one side and comes back on the other.
    forward = (phase + time) % 1.3 - 0.15
    if motion == "moving right":
        return forward, np.full(frames, lane_y)
    if motion == "moving left":
        return 1.0 - forward, np.full(frames, lane_y)
    if motion == "falling":
        return np.full(frames, lane_x), forward
    if motion == "rising":
        return np.full(frames, lane_x), 1.0 - forward
    if motion == "bouncing":
        bounce = (phase + 1.2 * time) % 1.0
        return np.full(frames, lane_x), 0.80 - 0.55 * (4 * bounce * (1 - bounce))
    angle = 2 * np.pi * (phase + 0.9 * time)
    return 0.5 + 0.27 * np.cos(angle), 0.47 + 0.25 * np.sin(angle)


def cover(shape, x, y, radius, softness):
    """How much of each pixel the shape covers, 0..1; `x`, `y` from its centre."""
    if shape == "ball":
        distance = np.hypot(x, y) - radius
    elif shape == "box":
        distance = np.maximum(abs(x), abs(y)) - 0.85 * radius
    elif shape == "triangle":
        distance = np.maximum(np.sqrt(3) / 2 * abs(x) - y / 2, y) - 0.5 * radius
    else:  # star
        points = 0.68 + 0.32 * np.cos(5 * np.arctan2(x, -y))
        distance = np.hypot(x, y) - 1.1 * radius * points
    return (0.5 - distance / softness).clip(0, 1)


def draw_clip(caption, frames, height, width, rng):
    """The clip (frames x height x width x 3) and where its object is (frames x height x width)."""
    behind = background(caption.scene, height, width, rng)
    radius, color = SIZES[caption.size], np.array(COLORS[caption.color])
    x, y = np.meshgrid(pixel_centres(width), pixel_centres(height))
    clip = np.empty((frames, height, width, 3), np.float32)
    masks = np.empty((frames, height, width), np.float32)
    for frame, (centre_x, centre_y) in enumerate(zip(*path(caption.motion, frames, rng))):
        dx, dy = x - centre_x, y - centre_y
        masks[frame] = cover(caption.shape, dx, dy, radius, 1.5 / height)
        light = 1.0 - 0.35 * ((dx + dy) / (2 * radius)).clip(-1, 1)
        lit = (color * light[..., None]).clip(0, 1)
        clip[frame] = behind + (lit - behind) * masks[frame][..., None]
    return clip, masks


def main():
    parser = argparse.ArgumentParser(description="Write a few clips as one picture.")
    parser.add_argument("--out", default="scenes.ppm", help="the picture, PPM")
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    rows = []
    for _ in range(arguments.clips):
        caption = Caption.draw(rng)
        print(caption)
        clip, _ = draw_clip(caption, 17, 64, 64, rng)
        rows.append(np.concatenate(list(itertools.islice(clip, 0, None, 2)), axis=1))
    picture = (np.concatenate(rows) * 255).astype(np.uint8)
    with open(arguments.out, "wb") as file:
        file.write(b"P6 %d %d 255\n" % (picture.shape[1], picture.shape[0]) + picture.tobytes())


if __name__ == "__main__":
    main()
