"""The pictures that the bundled checkpoints are trained and measured on: handwritten digits, redrawn large.

The handwriting is scikit-learn's digits: 1,797 images of 8x8 pixels, the test part of "Optical Recognition of
Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49,
licence CC BY 4.0). An 8x8 image holds how much of each pixel the pen covered, so its smooth enlargement is a relief
whose contour line is the pen stroke: cut at a height it gives a crisp digit of any size, and a mask of it for free.

Every drawing takes a NumPy generator and draws the same picture from the same seed. The handwriting comes from
whoever calls (`split_digits` is the one place that decides which digits are held out). Training and files are left to
`digits`. Needs NumPy and Pillow; `split_digits` also scikit-learn (extra `train`).

Shapes: H W height and width of the picture; glyphs are (8, 8). Colours are RGB, float32 in 0..1 while drawing.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

GLYPH_SIDE = 8  # pixels of the dataset's images
RELIEF_SCALE = 8  # a relief has this many pixels for one of the glyph's
INK_CONTRAST = 0.25  # least difference in brightness between ink and paper
BACKGROUND = 0  # the mask's value where there is no digit; digit d is d + 1


class Digits(NamedTuple):
    """Handwriting: `glyphs` (n, 8, 8) float32, the share of each pixel that is ink; `labels` (n,) int64, 0..9."""

    glyphs: Floats
    labels: NDArray[np.int64]


class Pose(NamedTuple):
    """Where and how one digit stands in a picture; lengths in pixels, angles in radians, y downwards."""

    x: float
    y: float
    height: float  # of the glyph's box
    angle: float = 0.0
    slant: float = 0.0  # horizontal shift per unit of height
    stretch: float = 1.0  # width relative to height
    cut: float = 0.5  # height of the contour line: lower is bolder
    edge: float = 1.5  # width of the soft rim between ink and paper

    def glyph_to_picture(self) -> NDArray[np.float64]:
        """The linear part of the map from the glyph's box, one unit high and wide, to the picture: (2, 2), x first."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        turn, slant = np.array([[cos, -sin], [sin, cos]]), np.array([[1, -self.slant], [0, 1]])
        return self.height * turn @ slant @ np.diag([self.stretch, 1])


def split_digits() -> tuple[Digits, Digits]:
    """The digits to train on and the digits held out: of each class, in the dataset's order, every fourth is held out.

    Raises ModuleNotFoundError, with what to install, without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the digits come with scikit-learn: pip install 'tinymvit[train]'") from error
    data = load_digits()
    glyphs, labels = (data.images / 16).astype(np.float32), data.target.astype(np.int64)
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        held_out[np.flatnonzero(labels == digit)[3::4]] = True
    return Digits(glyphs[~held_out], labels[~held_out]), Digits(glyphs[held_out], labels[held_out])


def draw_card(glyph: Floats, size: int, pose: Pose | None = None) -> Bytes:
    """One digit in black on white; without a `pose` upright, centred, its box four fifths of the picture.

    `glyph` (8, 8); returns (size, size, 3) uint8.
    """
    stroke = draw_stroke(glyph, (size, size), pose or Pose(x=size / 2, y=size / 2, height=0.8 * size))
    return _bytes(1 - np.repeat(stroke[:, :, None], 3, axis=2))


def draw_digit(rng: np.random.Generator, glyph: Floats, size: int) -> Bytes:
    """One digit in a random pose and colour on random paper.

    `glyph` (8, 8); returns (size, size, 3) uint8.
    """
    paper, tones = draw_paper(rng, (size, size))
    stroke = draw_stroke(glyph, (size, size), random_pose(rng, (size, size), size * rng.uniform(0.4, 0.95)))
    return photograph(rng, lay_ink(paper, stroke, random_ink(rng, tones)))


def draw_scene(
    rng: np.random.Generator, digits: Digits, shape: tuple[int, int], heights: tuple[float, float] = (0.42, 0.66)
) -> tuple[Bytes, Bytes]:
    """Up to five of `digits`, as many as find room, on random paper, none touching another; and where they are.

    `shape` (H, W); `heights`: the digits' least and greatest, relative to the shorter side. Returns the picture
    (H, W, 3) uint8 and its mask (H, W) uint8: 0 background, d + 1 the digit d.
    """
    picture, tones = draw_paper(rng, shape)
    mask = np.full(shape, BACKGROUND, dtype=np.uint8)
    occupied = np.zeros(shape, dtype=bool)
    wanted = rng.integers(2, 6)
    for _ in range(4 * wanted):  # where a digit finds no room, another is tried elsewhere
        choice = rng.integers(len(digits.labels))
        pose = random_pose(rng, shape, min(shape) * rng.uniform(*heights))
        stroke = draw_stroke(digits.glyphs[choice], shape, pose)
        if (occupied & (stroke > 0)).any():
            continue
        picture = lay_ink(picture, stroke, random_ink(rng, tones))
        mask[stroke >= 0.5] = digits.labels[choice] + 1
        occupied |= stroke > 0
        wanted -= 1
        if wanted == 0:
            break
    return photograph(rng, picture), mask


def draw_samples() -> dict[str, Bytes]:
    """The sample images by file name, all of held-out digits: (H, W, 3) uint8."""
    _, held_out = split_digits()
    pictures = {
        name: draw_digit(np.random.default_rng(seed), held_out.glyphs[index], 256)
        for name, (index, seed) in SAMPLE_DIGITS.items()
    }
    for name, seed in SAMPLE_SCENES.items():
        pictures[name], _ = draw_scene(np.random.default_rng(seed), held_out, (360, 480), heights=(0.5, 0.72))
    return pictures


SAMPLE_DIGITS = {"digit-2.png": (80, 49), "digit-3.png": (117, 48), "digit-5.png": (132, 17), "digit-7.png": (76, 50)}
SAMPLE_SCENES = {"scene-1.png": 30, "scene-2.png": 8}


def random_pose(rng: np.random.Generator, shape: tuple[int, int], height: float) -> Pose:
    """A digit of `height` as people write, anywhere inside a picture of `shape` (H, W).

    Turned by up to 17 degrees, slanted, wider or narrower, bolder or finer, in or out of focus.
    """
    pose = Pose(
        x=shape[1] / 2,
        y=shape[0] / 2,
        height=height,
        angle=rng.uniform(-0.3, 0.3),
        slant=rng.uniform(-0.25, 0.25),
        stretch=rng.uniform(0.75, 1.15),
        cut=rng.uniform(0.38, 0.58),
        edge=rng.uniform(1.0, 2.5),
    )
    reach = np.abs(pose.glyph_to_picture()).sum(axis=1) / 2  # of the box's corners from its centre
    slack = np.maximum(0, np.array([pose.x, pose.y]) - 0.9 * reach)  # the ink hardly ever reaches the corners
    shift = rng.uniform(-1, 1, 2) * slack
    return pose._replace(x=pose.x + shift[0], y=pose.y + shift[1])


def draw_stroke(glyph: Floats, shape: tuple[int, int], pose: Pose) -> Floats:
    """How much of each pixel of a picture of `shape` the digit's ink covers: (H, W) float32, 0..1."""
    relief = draw_relief(glyph)
    picture_to_relief = GLYPH_SIDE * RELIEF_SCALE * np.linalg.inv(pose.glyph_to_picture())
    offset = np.array(relief.size) / 2 - picture_to_relief @ (pose.x, pose.y)
    matrix = (*picture_to_relief[0], offset[0], *picture_to_relief[1], offset[1])
    level = relief.transform(shape[::-1], Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    # At a stroke's rim the relief falls from 1 to 0 within about one pixel of the glyph.
    steepness = pose.height / GLYPH_SIDE / pose.edge
    return np.clip((np.asarray(level) - np.float32(pose.cut)) * np.float32(steepness) + np.float32(0.5), 0, 1)


def draw_relief(glyph: Floats) -> Image.Image:
    """The glyph's smooth enlargement: a float image of 80x80, with one glyph pixel of empty margin all round.

    Each pixel is first set off from the mean of its 3x3 neighbours: that opens the small loops of 4, 6 and 9 and
    keeps thin strokes in one piece, whatever the height of the contour line.
    """
    padded = np.pad(glyph, 2)
    side = GLYPH_SIDE + 2
    mean = sum(padded[i : i + side, j : j + side] for i in range(3) for j in range(3)) / np.float32(9)
    sharp = 2 * padded[1:-1, 1:-1] - mean
    return Image.fromarray(sharp).resize((side * RELIEF_SCALE, side * RELIEF_SCALE), Image.Resampling.BICUBIC)


def draw_paper(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Paper of two random colours mixed by a random pattern: the picture (H, W, 3) and the two colours (2, 3).

    The colours' brightness leaves room for ink that is darker, or lighter, than both.
    """
    while True:
        tones = rng.random((2, 3), dtype=np.float32)
        bright = brightness(tones)
        if bright.min() > INK_CONTRAST + 0.1 or bright.max() < 0.9 - INK_CONTRAST:
            break
    mix = draw_pattern(rng, shape)[:, :, None]
    return tones[0] + (tones[1] - tones[0]) * mix, tones


def draw_pattern(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """One of plain, gradient, stripes, checks, clouds, grain and blobs, at random: (H, W) float32, 0..1."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / min(shape)
    angle = rng.uniform(0, math.pi)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    frequency, phase = 2 * math.pi / rng.uniform(0.08, 0.6), rng.uniform(0, 2 * math.pi)
    hardness = rng.uniform(0.5, 6)  # soft waves to hard-edged bars
    match rng.choice(["plain", "gradient", "stripes", "checks", "clouds", "grain", "blobs"]):
        case "plain":
            pattern = np.zeros_like(x)
        case "gradient":
            pattern = (along - along.min()) / np.ptp(along)
        case "stripes":
            pattern = 0.5 + hardness * np.sin(frequency * along + phase)
        case "checks":
            pattern = 0.5 + hardness * np.sin(frequency * along + phase) * np.sin(frequency * across + phase)
        case "clouds":
            pattern = _noise(rng, shape, cells=int(rng.integers(2, 9)))
        case "grain":
            pattern = _noise(rng, shape, cells=min(shape) // 2)
        case "blobs":
            pattern = np.zeros_like(x)
            for _ in range(rng.integers(3, 12)):
                centre_x, centre_y = rng.uniform(0, x.max()), rng.uniform(0, y.max())
                radius, flatness = rng.uniform(0.04, 0.3), rng.uniform(0.5, 2)
                inside = (x - centre_x) ** 2 + flatness * (y - centre_y) ** 2 < radius**2
                pattern = np.maximum(pattern, np.float32(rng.uniform(0.3, 1)) * inside)
    return np.clip(pattern, 0, 1)


def random_ink(rng: np.random.Generator, tones: Floats) -> Floats:
    """A colour (3,) that is darker than both the paper's `tones` (2, 3), or lighter, by INK_CONTRAST or more."""
    bright = brightness(tones)
    while True:
        ink = rng.random(3, dtype=np.float32)
        level = brightness(ink)
        if level < bright.min() - INK_CONTRAST or level > bright.max() + INK_CONTRAST:
            return ink


def brightness(colours: Floats) -> Floats:
    """Luma of RGB colours (..., 3), 0..1 (ITU-R BT.601)."""
    return colours @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def lay_ink(picture: Floats, stroke: Floats, ink: Floats) -> Floats:
    """`picture` (H, W, 3) with `ink` (3,) where `stroke` (H, W) covers it."""
    return picture + (ink - picture) * stroke[:, :, None]


def photograph(rng: np.random.Generator, picture: Floats) -> Bytes:
    """`picture` (H, W, 3) as a camera sees it: uneven light, a little out of focus, with sensor noise; uint8."""
    light = 1 - rng.uniform(0, 0.25) * _noise(rng, picture.shape[:2], cells=2)
    image = Image.fromarray(_bytes(picture * light[:, :, None])).filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2)))
    noise = rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(rng.uniform(0, 0.05))
    return _bytes(np.asarray(image) / np.float32(255) + noise)


def _noise(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> Floats:
    """Random values on a grid of `cells` along the shorter side, smoothly enlarged to `shape`: (H, W) float32, 0..1."""
    grid = [max(2, round(cells * side / min(shape))) for side in shape]
    coarse = Image.fromarray(rng.random(grid, dtype=np.float32))
    return np.clip(np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC)), 0, 1)


def _bytes(picture: Floats) -> Bytes:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
