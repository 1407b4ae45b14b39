"""Drawn images that are no chest radiograph, for the frontal check to learn from.

No photograph is among them, so that photographs can test what was learned. Images of layered
shapes and of coloured noise are known to stand in for photographs in training (Baradad et al.,
Learning to See by Looking at Noise, NeurIPS 2021).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.float32]


def draw(side: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one image, `(side, side)` uint8, of a kind chosen at random."""
    kind = _KINDS[random.choice(len(_KINDS), p=_SHARES)]
    image = kind(side, random)
    if random.random() < 0.3:
        image = _in_a_disc(image, random)
    if random.random() < 0.3:
        image = image + random.normal(0, random.uniform(0, 40), image.shape)
    if random.random() < 0.3:
        image = cv2.GaussianBlur(np.float32(image), (0, 0), random.uniform(0.5, 3))
    if random.random() < 0.5:
        image = 255 - image
    return np.clip(image, 0, 255).astype(np.uint8)


def _leaves(side: int, random: np.random.Generator) -> Gray:
    """Dead leaves: shapes that cover each other, their sizes by a power law."""
    image = np.full((side, side), random.uniform(0, 255), np.float32)
    for _ in range(random.integers(2, 150)):
        size = side * np.clip(0.02 / random.uniform(0.02, 1) ** 0.8, 0.02, 0.5)
        _shape(image, random.uniform(0, side, 2), size, random.uniform(0, 255), random)
    return image


def _shape(
    image: Gray, centre: NDArray, size: float, gray: float, random: np.random.Generator
) -> None:
    x, y = (int(value) for value in centre)
    if random.random() < 0.5:
        half = np.maximum(1, size * random.uniform(0.3, 1, 2)).astype(int)
        cv2.ellipse(image, (x, y), half.tolist(), random.uniform(0, 180), 0, 360, gray, -1)
        return
    angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 7)))
    corners = np.stack([np.cos(angles), np.sin(angles)], -1) * size + centre
    cv2.fillPoly(image, [corners.astype(np.int32)], gray)


def _coloured_noise(side: int, random: np.random.Generator) -> Gray:
    """Noise whose power falls with the frequency; white at an exponent of 0."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1
    spectrum = np.fft.fft2(random.normal(0, 1, (side, side)))
    return _stretched(np.fft.ifft2(spectrum / frequency ** random.uniform(0, 2.5)).real)


def _waves(side: int, random: np.random.Generator) -> Gray:
    """A gradient, a wave, stripes or a checkerboard; or nothing at all."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    angle = random.uniform(0, 2 * np.pi)
    if random.random() < 0.5:
        angle = np.pi / 2 * random.integers(4)
    u = np.cos(angle) * x + np.sin(angle) * y
    v = np.cos(angle) * y - np.sin(angle) * x
    n = 2 ** random.uniform(0, 5)
    phase = random.uniform(0, 2 * np.pi)
    centre = random.uniform(-0.5, 0.5, 2) * (random.random() < 0.5)
    values = [
        u,
        np.sign(u) * np.abs(u) ** random.uniform(0.3, 3),
        np.hypot(x - centre[0], y - centre[1]),
        np.sin(2 * np.pi * n * u + phase),
        np.sign(np.sin(2 * np.pi * n * u + phase)),
        np.sign(np.sin(2 * np.pi * n * u + phase) * np.sin(2 * np.pi * n * v + phase)),
        np.zeros_like(u),
        u + v * v * random.uniform(-3, 3),
    ]
    return _stretched(values[random.integers(len(values))])


def _page(side: int, random: np.random.Generator) -> Gray:
    """Lines of text."""
    scale = 4
    image = np.full((scale * side, scale * side), random.integers(180, 256), np.uint8)
    height = random.uniform(0.3, 1.2)
    step = int(height * 40)
    for y in range(random.integers(0, 3 * step), scale * side, step):
        letters = "".join(map(chr, random.integers(32, 123, random.integers(0, 50))))
        place = (int(random.integers(0, scale * side // 6)), y)
        cv2.putText(image, letters, place, random.integers(8), height, 20, random.integers(1, 4))
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)


def _limb(side: int, random: np.random.Generator) -> Gray:
    """Bones in soft tissue on black: fingers, a knee, a skull."""
    tissue, bone = np.zeros((2, side, side), np.float32)
    start = random.uniform(0.3, 0.7, 2) * side
    start[1] = side * random.uniform(0.5, 1.1)
    spread = random.uniform(0.1, 1.2)
    count = int(random.integers(1, 7))
    for angle in np.linspace(-spread, spread, count) + random.normal(0, 0.1, count):
        length = side * random.uniform(0.3, 1.1)
        end = start + length * np.array([np.sin(angle), -np.cos(angle)])
        width = max(2, int(side * random.uniform(0.04, 0.4) / count**0.5))
        points = [tuple(int(value) for value in point) for point in (start, end)]
        cv2.line(tissue, *points, random.uniform(60, 120), width)
        cv2.line(bone, *points, random.uniform(60, 120), max(1, int(width * 0.45)))
    image = cv2.GaussianBlur(tissue, (0, 0), side / 90) + cv2.GaussianBlur(bone, (0, 0), side / 90)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), random.uniform(0, 360), 1)
    return cv2.warpAffine(image, turn, (side, side))


def _slice(side: int, random: np.random.Generator) -> Gray:
    """A section of a body, as of CT or MR: an ellipse on black, with organs, often two lungs."""
    image = np.zeros((side, side), np.float32)
    centre = side * random.uniform(0.42, 0.58, 2)
    half = side * random.uniform(0.25, 0.48, 2)
    angle = random.normal(0, 8)
    gray = random.uniform(90, 200)
    _ellipse(image, centre, half, angle, gray + random.uniform(0, 55))  # skin, fat, skull
    _ellipse(image, centre, half * random.uniform(0.8, 0.97), angle, gray)
    if random.random() < 0.5:
        for lung in (-1, 1):
            place = centre + half * (lung * random.uniform(0.4, 0.55), random.normal(-0.1, 0.1))
            size = half * (random.uniform(0.25, 0.4), random.uniform(0.4, 0.7))
            _ellipse(image, place, size, random.normal(0, 12), random.uniform(0, 50))
    for _ in range(random.integers(1, 12)):
        place = centre + half * random.normal(0, 0.4, 2)
        size = half * random.uniform(0.05, 0.3, 2)
        _ellipse(image, place, size, random.uniform(0, 180), gray * random.uniform(0.4, 1.6))
    return image


def _ellipse(image: Gray, centre: NDArray, half: NDArray, angle: float, gray: float) -> None:
    at, axes = centre.astype(int).tolist(), np.maximum(1, half).astype(int).tolist()
    cv2.ellipse(image, at, axes, angle, 0, 360, gray, -1)


def _mixture(side: int, random: np.random.Generator) -> Gray:
    """Shapes over coloured noise, as textures have it."""
    share = random.uniform(0.2, 0.8)
    return share * _leaves(side, random) + (1 - share) * _coloured_noise(side, random)


def _in_a_disc(image: Gray, random: np.random.Generator) -> Gray:
    """The image inside an ellipse, with black or white around it."""
    inside = np.zeros_like(image)
    centre = image.shape[0] * random.uniform(0.4, 0.6, 2)
    _ellipse(inside, centre, image.shape[0] * random.uniform(0.25, 0.55, 2), 0, 1)
    return np.where(inside > 0, image, 255.0 * (random.random() < 0.2)).astype(np.float32)


def _stretched(values: NDArray[np.floating]) -> Gray:
    low, high = values.min(), values.max()
    return ((values - low) * (255 / max(high - low, 1e-9))).astype(np.float32)


_KINDS = (_leaves, _coloured_noise, _waves, _page, _limb, _slice, _mixture)
_SHARES = (0.25, 0.15, 0.12, 0.08, 0.12, 0.13, 0.15)
