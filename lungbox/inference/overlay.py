"""Overlays: the radiograph with the mask as a heat map, and boxes with their confidences."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lungbox.boxes import Boxes, geometry
from lungbox.common.files import atomic_write
from lungbox.constants import CLASS_NAMES, OPACITY, RESEARCH_USE
from lungbox.findings import Findings

# Larger radiographs are reduced, so that edges of boxes stay visible and files small.
_LONGEST_SIDE = 1024
_CAPTION_WIDTH = 384  # smaller ones are enlarged to what the caption needs
_MEMBER_SIDE = 384  # of each picture where members are compared
_BOX = (255, 196, 0)
_WITHHELD = (150, 166, 184)  # muted beside `_BOX`, and bright enough on lung and on bone
_TRUTH = (64, 224, 255)
_CAPTION = (235, 235, 235)


def draw(
    pixels: NDArray[np.uint8], mask: NDArray[np.floating] | None, findings: Findings
) -> Image.Image:
    """Draw one radiograph's findings.

    Args:
        pixels: `(H, W)` uint8, the radiograph as it was read.
        mask: `(h, w, 1 + C)` probabilities; the classes' are laid over it, from clear to red.
            None for no overlay.
        findings: its boxes, in pixels of the radiograph; those that were withheld are dashed and
            gray.

    Returns:
        An RGB picture of the radiograph's shape, at most 1,024 pixels long, and below it lines
        with the image score, its flag where it has one, why boxes were withheld, and that this is
        for research use only.
    """
    height, width = pixels.shape
    factor = min(_LONGEST_SIDE / max(height, width), max(1.0, _CAPTION_WIDTH / width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = _heat_map(pixels, mask, size)
    _draw_withheld(picture, findings)
    _draw_boxes(picture, findings)
    return _captioned(picture, findings)


def compare(
    pixels: NDArray[np.uint8],
    members: dict[str, NDArray[np.floating]],
    mask: NDArray[np.floating],
    findings: Findings,
) -> Image.Image:
    """Draw the mask of each member of an ensemble beside the ensemble's.

    Args:
        pixels: `(H, W)` uint8, the radiograph as it was read.
        members: each one's name and `(h, w, 1 + C)` probabilities.
        mask: `(h, w, 1 + C)`, their mean.
        findings: the ensemble's boxes.

    Returns:
        An RGB picture: the members in a row, the ensemble with its boxes last.
    """
    height, width = pixels.shape
    factor = _MEMBER_SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    tiles = [_heat_map(pixels, values, size) for values in (*members.values(), mask)]
    _draw_withheld(tiles[-1], findings)
    _draw_boxes(tiles[-1], findings)
    font = ImageFont.load_default(14)
    row = Image.new("RGB", (len(tiles) * (size[0] + 4) - 4, size[1] + 24))
    for column, (tile, name) in enumerate(zip(tiles, (*members, "together"), strict=True)):
        left = column * (size[0] + 4)
        row.paste(tile, (left, 24))
        ImageDraw.Draw(row).text((left + 4, 4), name, fill=_CAPTION, font=font)
    return _captioned(row, findings)


def beside_truth(
    pixels: NDArray[np.uint8],
    mask: NDArray[np.floating] | None,
    findings: Findings,
    truth: Boxes,
    side: int,
) -> Image.Image:
    """Draw predicted boxes in yellow and true boxes in cyan.

    Args:
        pixels: `(H, W)` uint8, the radiograph as it was read.
        mask: `(h, w, 1 + C)` probabilities; None for no overlay.
        findings: in pixels of the radiograph.
        truth: `(N, 4)` `x1, y1, x2, y2`, the same.
        side: of the longer edge of the picture, in pixels.

    Returns:
        An RGB picture without a caption.
    """
    height, width = pixels.shape
    size = (round(width * side / max(pixels.shape)), round(height * side / max(pixels.shape)))
    picture = _heat_map(pixels, mask, size)
    pen = ImageDraw.Draw(picture)
    for box in geometry.scale(truth, findings.size, size).tolist():
        pen.rectangle(box, outline=_TRUTH, width=max(2, side // 170))
    _draw_withheld(picture, findings)
    _draw_boxes(picture, findings)
    return picture


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture as PNG, atomically."""
    with atomic_write(path, "wb") as file:
        picture.save(file, format="PNG")


def _heat_map(
    pixels: NDArray[np.uint8], mask: NDArray[np.floating] | None, size: tuple[int, int]
) -> Image.Image:
    """The image at a size, blended with the largest class probability, from yellow to red."""
    gray = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    if mask is None:
        return Image.fromarray(np.repeat(gray[..., None], 3, axis=-1))
    probability = np.ascontiguousarray(mask[..., OPACITY:].max(axis=-1), np.float32)
    opacity = cv2.resize(probability, size, interpolation=cv2.INTER_LINEAR)[..., None]
    colour = np.concatenate(
        [np.full_like(opacity, 255), 255 * (1 - opacity), np.zeros_like(opacity)], axis=-1
    )
    blended = gray[..., None] * (1 - opacity / 2) + colour * (opacity / 2)
    return Image.fromarray(np.round(blended).astype(np.uint8))


def _draw_boxes(picture: Image.Image, findings: Findings) -> None:
    pen = ImageDraw.Draw(picture)
    line = max(2, picture.width // 340)
    font = ImageFont.load_default(max(12, picture.width // 40))
    boxes = geometry.scale(findings.boxes, findings.size, picture.size)
    rows = zip(boxes.tolist(), findings.labels, findings.scores, strict=True)
    for (x1, y1, x2, y2), label, score in rows:
        pen.rectangle((x1, y1, x2, y2), outline=_BOX, width=line)
        text = f" {_titled(label, score, findings)} "
        left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
        height = bottom - top + 2 * line
        # Above the box where there is room, else inside it.
        corner = (x1, y1 - height if y1 >= height else y1)
        pen.rectangle((*corner, corner[0] + right - left, corner[1] + height), fill=_BOX)
        pen.text((corner[0] - left, corner[1] + line - top), text, fill="black", font=font)


def _titled(label: str, score: float, findings: Findings) -> str:
    """A box's confidence, after its class where an ensemble has several."""
    return f"{score:.2f}" if _of_opacity(findings) else f"{label} {score:.2f}"


def _of_opacity(findings: Findings) -> bool:
    return findings.class_names == CLASS_NAMES[OPACITY:]


def _draw_withheld(picture: Image.Image, findings: Findings) -> None:
    pen, line = ImageDraw.Draw(picture), max(2, picture.width // 340)
    font = ImageFont.load_default(max(12, picture.width // 40))
    boxes = geometry.as_boxes([item.box for item in findings.withheld])
    scaled = geometry.scale(boxes, findings.size, picture.size).tolist()
    for (x1, y1, x2, y2), item in zip(scaled, findings.withheld, strict=True):
        corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1))
        for start, end in pairwise(corners):
            _dashed(pen, start, end, line)
        text = _titled(item.label, item.score, findings)
        pen.text((x1 + 2 * line, y1 + 2 * line), text, fill=_WITHHELD, font=font)


def _dashed(
    pen: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], line: int
) -> None:
    """A horizontal or vertical line of dashes, each as long as the gap after it."""
    a, b = np.array(start), np.array(end)
    length, dash = np.abs(b - a).sum(), 4 * line
    for first in np.arange(0, length, 2 * dash):
        shares = np.clip([first / length, (first + dash) / length], 0, 1)[:, None]
        pen.line((a + (b - a) * shares).ravel().tolist(), fill=_WITHHELD, width=line)


def _captioned(picture: Image.Image, findings: Findings) -> Image.Image:
    letters = max(11, picture.width // 64)
    font = ImageFont.load_default(letters)
    count = len(findings.boxes)
    withheld = (
        f"{len(findings.withheld)} withheld (dashed): image score {findings.image_score:.3f} is "
        f"below the gate {findings.gate:.4f}"
    )
    lines = [
        f"{findings.identity}   {'opacity' if _of_opacity(findings) else 'any finding'} "
        f"{findings.image_score:.2f}   "
        f"{count} box{'' if count == 1 else 'es'}",
        *([withheld] if findings.withheld else []),
        *([f"check: {findings.flag}"] if findings.flag else []),
        RESEARCH_USE,
    ]
    step = round(letters * 1.5)
    width = max(picture.width, _CAPTION_WIDTH)
    framed = Image.new("RGB", (width, picture.height + step * len(lines) + step // 2))
    framed.paste(picture)
    pen = ImageDraw.Draw(framed)
    for number, text in enumerate(lines):
        corner = (step // 2, picture.height + step // 3 + number * step)
        pen.text(corner, text, fill=_CAPTION, font=font)
    return framed
