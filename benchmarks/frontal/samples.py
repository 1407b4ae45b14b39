"""Samples for the frontal check to learn from: varied radiographs, upright, turned or negative,
and images that are none."""

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.frontal import drawings
from lungbox.radiograph.frontal import CLASSES, OTHER, SIDE, thumbnail

Image = NDArray[np.uint8]

# Radiographs are varied at this size, then reduced to the check's.
WORKING_SIDE = 64
# Shares of upright radiographs, of turned or negative ones, and of others.
_SHARES = (0.45, 0.3, 0.25)


def sample(images: NDArray[np.uint8], random: np.random.Generator) -> tuple[Image, int]:
    """One thumbnail `(SIDE, SIDE)` uint8 and its class, an index into `CLASSES`.

    Args:
        images: `(N, WORKING_SIDE, WORKING_SIDE)` uint8, prepared radiographs to choose from.
        random: of everything.
    """
    image = images[random.integers(len(images))]
    kind = random.choice(3, p=_SHARES)
    if kind < 2:
        label = 0 if kind == 0 else int(random.integers(1, OTHER))
        return thumbnail(turned(varied(image, random), label)), label
    if random.random() < 0.7:
        return thumbnail(drawings.draw(WORKING_SIDE, random)), OTHER
    distort = _DISTORTIONS[random.integers(len(_DISTORTIONS))]
    distorted = turned(distort(image, images, random), int(random.integers(OTHER)))
    return thumbnail(distorted), OTHER


def turned(image: Image, label: int) -> Image:
    """A radiograph as its class in `CLASSES` says."""
    negative, quarters = divmod(label, 4)
    return np.ascontiguousarray(np.rot90(255 - image if negative else image, quarters))


def varied(image: Image, random: np.random.Generator) -> Image:
    """A radiograph as other hospitals might have it: mirrored, turned by a few degrees, cropped or
    with borders, with collimation, markers, uneven exposure or noise."""
    if random.random() < 0.5:
        image = image[:, ::-1]
    border = 0.0 if random.random() < 0.85 else random.uniform(0, 255)
    zoom = np.exp(random.normal(0, (0.1, 0.1)))
    if random.random() < 0.15:  # wide borders
        zoom *= random.uniform(0.6, 1, 2)
    image = _warped(image, zoom, np.clip(random.normal(0, 4), -12, 12), border, random)
    image = image.astype(np.float32)
    if random.random() < 0.3:
        image += _shading(len(image), random)
    if random.random() < 0.2:
        image += random.normal(0, random.uniform(2, 25), image.shape)
    if random.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.5, 2))
    image = np.clip(image, 0, 255).astype(np.uint8)
    if random.random() < 0.15:
        local = cv2.createCLAHE(random.uniform(1, 6), (8, 8))
        image = local.apply(image)
    if random.random() < 0.1:
        image = _collimated(image, random)
    if random.random() < 0.3:
        image = _marked(image, random)
    return image


def _warped(
    image: Image, zoom: NDArray, degrees: float, border: float, random: np.random.Generator
) -> Image:
    side = len(image)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, 1)
    scale = np.diag([*zoom, 1.0])
    scale[:2, 2] = side / 2 * (1 - zoom) + side * random.normal(0, 0.04, 2)
    matrix = scale[:2] @ np.vstack([turn, [0, 0, 1]])
    replicate = random.random() < 0.3
    mode = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
    image = np.ascontiguousarray(image)
    return cv2.warpAffine(image, matrix, (side, side), borderMode=mode, borderValue=border)


def _shading(side: int, random: np.random.Generator) -> NDArray[np.float32]:
    y, x = np.mgrid[:side, :side] / side - 0.5
    slope = random.normal(0, 40, 2)
    return (slope[0] * x + slope[1] * y).astype(np.float32)


def _collimated(image: Image, random: np.random.Generator) -> Image:
    """Black outside a rectangle that is turned a little."""
    side = len(image)
    box = ((side / 2, side / 2), tuple(side * random.uniform(0.8, 1.1, 2)), random.normal(0, 4))
    inside = np.zeros_like(image)
    cv2.fillPoly(inside, [cv2.boxPoints(box).astype(np.int32)], 1)
    return image * inside


def _marked(image: Image, random: np.random.Generator) -> Image:
    """Letters and patches, white or black, most of them near the edges."""
    image, side = image.copy(), len(image)
    for _ in range(random.integers(1, 6)):
        gray = 255 * int(random.random() < 0.75)
        x, y = (int(value) for value in side * random.beta(0.5, 0.5, 2))
        if random.random() < 0.5:
            letters = "".join(map(chr, random.integers(48, 91, random.integers(1, 12))))
            cv2.putText(image, letters, (x, y), 0, random.uniform(0.2, 0.7), gray, 1)
        else:
            width, height = (int(value) for value in side * random.uniform(0.02, 0.18, 2))
            cv2.rectangle(image, (x, y), (x + width, y + height), gray, -1)
    return image


def _part(image: Image, _: NDArray[np.uint8], random: np.random.Generator) -> Image:
    """A small part of it."""
    side = len(image)
    width, height = (side * random.uniform(0.12, 0.4, 2)).astype(int)
    x, y = random.integers(0, side - width), random.integers(0, side - height)
    return cv2.resize(image[y : y + height, x : x + width], (side, side))


def _shuffled(image: Image, _: NDArray[np.uint8], random: np.random.Generator) -> Image:
    """Its tiles in another order."""
    count = int(2 ** random.integers(1, 4))
    step = len(image) // count
    tiles = image.reshape(count, step, count, step).swapaxes(1, 2).reshape(-1, step, step)
    tiles = tiles[np.roll(random.permutation(len(tiles)), 1)]
    tiles = tiles.reshape(count, count, step, step).swapaxes(1, 2)
    return np.ascontiguousarray(tiles.reshape(image.shape))


def _oblique(image: Image, _: NDArray[np.uint8], random: np.random.Generator) -> Image:
    """Turned by about 45 degrees."""
    degrees = 45 + random.uniform(-12, 12)
    return _warped(image, np.ones(2), degrees, 0, random)


def _blended(image: Image, images: NDArray[np.uint8], random: np.random.Generator) -> Image:
    """Mixed with another one that is turned."""
    other = np.rot90(images[random.integers(len(images))], random.integers(1, 4))
    return ((image.astype(np.uint16) + other) // 2).astype(np.uint8)


def _scrambled(image: Image, _: NDArray[np.uint8], random: np.random.Generator) -> Image:
    """Its spectrum with other phases."""
    phases = np.fft.fft2(random.normal(0, 1, image.shape))
    amplitude = np.abs(np.fft.fft2(image - image.mean()))
    values = np.fft.ifft2(amplitude * phases / np.abs(phases)).real
    return np.clip(values + image.mean(), 0, 255).astype(np.uint8)


_DISTORTIONS = (_part, _shuffled, _oblique, _blended, _scrambled)
__all__ = ["CLASSES", "SIDE", "WORKING_SIDE", "sample", "turned", "varied"]
