"""Pictures cut and resized by Pillow, the references' own library.

    pip install pillow numpy
    python record.py ../../tests/it/pictures

`NAME.png` is what a user gives; `NAME_64x64.png` is its largest middle square, resized with
Lanczos (SkyReels-V2, commit abed76f: `resize_crop`); `NAME_64x64_nearest.png` is the same without
antialiasing, which a test must be able to tell apart.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image


def fitted(picture: Image.Image, side: int, how) -> Image.Image:
    square = min(picture.size)
    left, top = (picture.width - square) // 2, (picture.height - square) // 2
    return picture.crop((left, top, left + square, top + square)).resize((side, side), how)


def pattern(width: int, height: int) -> Image.Image:
    """Slow gradients with fine stripes over them: what antialiasing is for."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    red = 110 + 70 * np.sin(x / 31) + 45 * (((x // 2) % 2) * 2 - 1)
    green = 120 + 80 * np.cos(y / 23)
    blue = 128 + 60 * np.sin((x + y) / 41) + 40 * (((y // 3) % 2) * 2 - 1)
    rgb = np.stack([red, green, blue], -1).clip(0, 255).round().astype(np.uint8)
    return Image.fromarray(rgb)


def main(folder: Path) -> None:
    for name, size in [("wide", (300, 200)), ("tall", (150, 260)), ("small", (48, 40))]:
        picture = pattern(*size)
        picture.save(folder / f"{name}.png", optimize=True)
        how = {"": Image.Resampling.LANCZOS, "_nearest": Image.Resampling.NEAREST}
        for suffix, resampling in how.items():
            fitted(picture, 64, resampling).save(folder / f"{name}_64x64{suffix}.png", optimize=True)


main(Path(sys.argv[1]))
