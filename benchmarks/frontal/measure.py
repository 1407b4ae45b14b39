"""What the frontal check flags: false alarms on radiographs of fold 0, hits on everything else."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.frontal import pictures
from benchmarks.frontal.samples import turned
from lungbox import datasets
from lungbox.common.files import walk_files
from lungbox.common.paths import cache_folder
from lungbox.datasets.cache import PreparedImages, prepare_all
from lungbox.datasets.types import LabelledRadiograph
from lungbox.radiograph import prepare, read
from lungbox.radiograph.frontal import CLASSES, OTHER, frontal_flag
from lungbox.radiograph.prepare import Preparation

Image = NDArray[np.uint8]

HELD_OUT, SIZE, ADULT = 0, 256, 18
# Folders of radiographs at full size, inside `--data`.
_FULL_SIZE = ("nih1024/images", "nih1024", "vinbigdata/images")


def measure(data: Path) -> None:
    """Print two tables in Markdown: radiographs, and images that are none."""
    prepared = prepare_all(datasets.load(data).folds([HELD_OUT]), SIZE, cache_folder())
    print("| held-out radiographs | images | flagged | share |\n| --- | --- | --- | --- |")
    _groups(prepared)
    _changed(prepared)
    _full_size(data)
    print("\n| no upright radiographs | images | flagged | share | named | not flagged |")
    print("| --- | --- | --- | --- | --- | --- |")
    images = [prepared.images(row) for row in range(len(prepared))]
    for label in range(1, OTHER):
        found = [frontal_flag(turned(one, label)) for one in images]
        _hits(f"radiographs: {_NAMES[label]}", found)
    for name, found in pictures.groups():
        _hits(name, [frontal_flag(prepare(one, SIZE)) for one in found.values()], list(found))


_NAMES = (
    "",
    "rotated by 90 degrees anticlockwise",
    "rotated by 180 degrees",
    "rotated by 90 degrees clockwise",
    "inverted",
    "inverted, 90 degrees anticlockwise",
    "inverted, 180 degrees",
    "inverted, 90 degrees clockwise",
)
_GROUPS: dict[str, Callable[[LabelledRadiograph], bool]] = {
    "RSNA": lambda image: image.source == "rsna",
    "RSNA, AP": lambda image: image.source == "rsna" and image.view == "AP",
    "RSNA, PA": lambda image: image.source == "rsna" and image.view == "PA",
    "RSNA, published equalised": lambda image: image.source == "rsna" and image.equalised,
    "RSNA, natural contrast": lambda image: image.source == "rsna" and not image.equalised,
    "SIIM-COVID": lambda image: image.source == "siim",
    "NIH ChestX-ray14": lambda image: image.source == "nih",
    "VinBigData": lambda image: image.source == "vinbigdata",
    "children (RSNA and NIH, under 18)": lambda image: 0 <= image.age < ADULT,
    "of them under 10": lambda image: 0 <= image.age < 10,
    "with an opacity (all sources)": lambda image: image.target,
    "all": lambda _: True,
}


def _groups(prepared: PreparedImages) -> None:
    flags = [frontal_flag(prepared.images(row)) for row in range(len(prepared))]
    together = list(zip(prepared.dataset.images, flags, strict=True))
    for name, belongs in _GROUPS.items():
        _alarms(name, [flag for image, flag in together if belongs(image)])
    for image, flag in together:
        if flag:
            print(f"<!-- {image.source} {image.identity}: {flag} -->")


def _changed(prepared: PreparedImages) -> None:
    """The same radiographs as other hospitals might send them."""
    images = [prepared.images(row) for row in range(len(prepared))]
    changes: dict[str, Callable[[Image], Image]] = {
        "mirrored": lambda one: one[:, ::-1],
        "rotated by 8 degrees": lambda one: _rotated(one, 8),
        "rotated by -8 degrees": lambda one: _rotated(one, -8),
        "cropped by 8 % on each side": lambda one: one[20:-20, 20:-20],
        "black borders of 15 % left and right": lambda one: _bordered(one, 0, 38, 0),
        "white borders of 15 % left and right": lambda one: _bordered(one, 0, 38, 255),
        "black borders of 10 % on all sides": lambda one: _bordered(one, 26, 26, 0),
        "burned-in text": _with_text,
        "not equalised, nearest neighbour, 128 px": lambda one: one,
    }
    for name, change in changes.items():
        how: Preparation = "nearest" if "nearest" in name else "equalised"
        size = 128 if how == "nearest" else SIZE
        _alarms(
            f"all, {name}",
            [frontal_flag(prepare(np.ascontiguousarray(change(one)), size, how)) for one in images],
        )


def _full_size(data: Path) -> None:
    """Radiographs of 1024 x 1024 pixels, of any fold."""
    for folder in _FULL_SIZE:
        files = [path for path in walk_files(data / folder) if path.suffix in (".png", ".dcm")]
        if files:
            flags = [frontal_flag(prepare(read(path).pixels, SIZE)) for path in files]
            _alarms(f"{folder}, 1024 px", flags)


def _rotated(image: Image, degrees: float) -> Image:
    middle = ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    turn = cv2.getRotationMatrix2D(middle, degrees, 1)
    return cv2.warpAffine(image, turn, image.shape[::-1])


def _bordered(image: Image, rows: int, columns: int, gray: int) -> Image:
    return np.pad(image, ((rows, rows), (columns, columns)), constant_values=gray)


def _with_text(image: Image) -> Image:
    image = image.copy()
    for line, text in enumerate(("PORTABLE AP", "UPRIGHT 10:42", "ID 4711-0815")):
        cv2.putText(image, text, (4, 14 + 14 * line), 0, 0.45, 255, 1)
    cv2.putText(image, "L", (220, 60), 0, 1.2, 255, 3)
    return image


def _alarms(name: str, flags: list[str]) -> None:
    count = sum(map(bool, flags))
    print(f"| {name} | {len(flags)} | {count} | {count / max(1, len(flags)):.2%} |")


def _hits(name: str, flags: list[str], names: list[str] | None = None) -> None:
    """A row of the table: how many are flagged, and which rotation or inversion is named."""
    count = sum(map(bool, flags))
    named = Counter(flag for flag in flags if flag not in ("", CLASSES[OTHER]))
    told = ", ".join(f"{flag}: {number}" for flag, number in named.most_common())
    missed = ", ".join(one for one, flag in zip(names or [], flags, strict=False) if not flag)
    print(f"| {name} | {len(flags)} | {count} | {count / len(flags):.1%} | {told} | {missed} |")
