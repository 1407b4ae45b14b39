"""Phantoms: drawn chest radiographs with opacities whose boxes are known, for tests."""

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lungbox.boxes import Boxes, geometry
from lungbox.constants import RSNA_CLASSES, RSNA_SIZE
from lungbox.datasets.rsna import CLASSES, EXTRAS, IMAGE_FOLDERS, LABELS

# Centres and half axes of the lungs, as shares of the image.
_LUNGS = (((0.31, 0.50), (0.14, 0.30)), ((0.69, 0.50), (0.14, 0.30)))


@dataclass(frozen=True)
class Phantom:
    """A drawn radiograph: `(size, size)` uint8 and the `(N, 4)` boxes of its opacities."""

    pixels: NDArray[np.uint8]
    boxes: Boxes


def draw(size: int, opacities: int, random: np.random.Generator) -> Phantom:
    """Draw a chest with 0, 1 or 2 opacities, one a lung.

    Args:
        size: side of the square, in pixels.
        opacities: their number.
        random: of their positions and sizes, and of the noise.
    """
    canvas = np.full((size, size), 20, np.float32)
    _ellipse(canvas, (0.5, 0.55), (0.44, 0.52), 150)
    for centre, axes in _LUNGS:
        _ellipse(canvas, centre, axes, 60)
    _ellipse(canvas, (0.54, 0.62), (0.13, 0.16), 170)  # heart
    _ellipse(canvas, (0.5, 0.5), (0.04, 0.5), 190)  # spine
    for rib in np.linspace(0.22, 0.78, 8):
        _ellipse(canvas, (0.5, rib + 0.1), (0.40, 0.10), 25, ring=True)
    lungs = random.permutation(len(_LUNGS))[:opacities]
    boxes = [_opacity(canvas, *_LUNGS[lung], random) for lung in sorted(lungs)]
    canvas += random.normal(0, 4, canvas.shape)
    return Phantom(np.clip(canvas, 0, 255).astype(np.uint8), geometry.as_boxes(boxes))


def write_rsna(folder: Path, count: int, size: int = 128, seed: int = 0) -> None:
    """Write `count` phantoms and their labels as the RSNA challenge's files.

    A third has no opacity, a third one, a third two; the folds 0-4 follow each other.

    Args:
        folder: created where it is missing.
        count: number of images.
        size: their side, in pixels; the labels are in the challenge's 1024 space.
        seed: of the random numbers.
    """
    images = folder / IMAGE_FOLDERS[0]
    images.mkdir(parents=True, exist_ok=True)
    labels: list[tuple[str, ...]] = [("patientId", "x", "y", "width", "height", "Target")]
    classes = [("patientId", "class")]
    extras = [("patientId", "fold", "group", "ViewPosition")]
    for number in range(count):
        name = f"phantom-{number:04d}"
        phantom = draw(size, number % 3, np.random.default_rng((seed, number)))
        Image.fromarray(phantom.pixels).save(images / f"{name}.png")
        scaled = geometry.scale(phantom.boxes, (size, size), (RSNA_SIZE, RSNA_SIZE))
        boxes = geometry.to_xywh(scaled)
        labels += [(name, *map(str, box), "1") for box in boxes.tolist()]
        if not len(boxes):
            labels.append((name, "", "", "", "", "0"))
        classes.append((name, RSNA_CLASSES[2] if len(boxes) else RSNA_CLASSES[number % 2]))
        extras.append((name, str(number % 5), f"patient-{number}", ("AP", "PA")[number % 2]))
    for filename, rows in ((LABELS, labels), (CLASSES, classes), (EXTRAS, extras)):
        with (folder / filename).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def _opacity(
    canvas: NDArray[np.float32],
    centre: tuple[float, float],
    axes: tuple[float, float],
    random: np.random.Generator,
) -> tuple[float, float, float, float]:
    """Brighten an ellipse inside a lung; returns its box, in pixels."""
    side = canvas.shape[0]
    half = np.array(axes) * random.uniform((0.5, 0.3), (0.85, 0.55))
    place = np.array(centre) + np.array([0.0, axes[1] * random.uniform(-0.4, 0.4)])
    patch = np.zeros_like(canvas)
    _ellipse(patch, tuple(place), tuple(half), 90)
    canvas += cv2.GaussianBlur(patch, (0, 0), side / 80)
    x, y, w, h = cv2.boundingRect((patch > 0).astype(np.uint8))
    return float(x), float(y), float(x + w), float(y + h)


def _ellipse(
    canvas: NDArray[np.float32],
    centre: tuple[float, ...],
    axes: tuple[float, ...],
    value: float,
    ring: bool = False,
) -> None:
    """Fill an ellipse with `value`, or add it along its outline; shares of the image."""
    side = canvas.shape[0]
    point = [round(share * side) for share in centre]
    half = [max(1, round(share * side)) for share in axes]
    if not ring:
        cv2.ellipse(canvas, point, half, 0, 0, 360, value, -1)
        return
    outline = np.zeros_like(canvas)
    cv2.ellipse(outline, point, half, 0, 180, 360, value, max(1, side // 64))
    canvas += outline
