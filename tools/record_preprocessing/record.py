"""Records what CLIP's preprocessing makes of small pictures. See README.md."""

import json
import math

import numpy as np
from PIL import Image

MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]
SIZES = [(7, 10, 4), (11, 5, 4), (9, 9, 4), (4, 6, 4), (3, 5, 6), (16, 13, 6)]


def picture(height: int, width: int) -> np.ndarray:
    """Smooth colours with an edge, no two alike: uint8 [H, W, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    red = 20 + 200 * x / (width - 1)
    green = 230 - 180 * y / (height - 1)
    blue = np.where(x + 2 * y > width, 180 + 3 * y, 60 + 5 * x)
    return np.stack([red, green, blue], axis=-1).round().clip(0, 255).astype(np.uint8)


def normal(square: np.ndarray) -> np.ndarray:
    """[3, s, s] in 0..1 to CLIP's input."""
    return (square - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]


def crop(rgb: np.ndarray, size: int) -> np.ndarray:
    height, width, _ = rgb.shape
    short = min(height, width)
    new = (int(size * height / short), int(size * width / short))
    resized = np.asarray(Image.fromarray(rgb).resize((new[1], new[0]), Image.BICUBIC))
    top, left = (new[0] - size) // 2, (new[1] - size) // 2
    square = resized[top : top + size, left : left + size]
    return normal(square.transpose(2, 0, 1) / 255.0)


def kernel(x: float) -> float:
    a, x = -0.75, abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def squash(rgb: np.ndarray, size: int) -> np.ndarray:
    height, width, _ = rgb.shape
    out = np.zeros((3, size, size))
    for row in range(size):
        y = (row + 0.5) * height / size - 0.5
        for column in range(size):
            x = (column + 0.5) * width / size - 0.5
            for i in range(math.floor(y) - 1, math.floor(y) + 3):
                for j in range(math.floor(x) - 1, math.floor(x) + 3):
                    pixel = rgb[min(max(i, 0), height - 1), min(max(j, 0), width - 1)] / 255.0
                    out[:, row, column] += kernel(y - i) * kernel(x - j) * pixel
    return normal(out)


def numbers(tensor: np.ndarray) -> list[float]:
    return [round(float(number), 6) for number in tensor.flatten()]


def main() -> None:
    cases = []
    for height, width, size in SIZES:
        rgb = picture(height, width)
        cases.append(
            {
                "height": height,
                "width": width,
                "size": size,
                "picture": rgb.transpose(2, 0, 1).flatten().tolist(),
                "crop": numbers(crop(rgb, size)),
                "squash": numbers(squash(rgb, size)),
            }
        )
    print("[\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]")


main()
