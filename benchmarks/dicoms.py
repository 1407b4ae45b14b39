"""Radiographs as the RSNA challenge ships them: 8-bit baseline JPEG in DICOM."""

from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit

from lungbox.inference.files import find_image_files
from lungbox.radiograph import RadiographError, read
from tests.dicoms import dataset, write


def write_dicoms(images: Path, folder: Path, count: int, side: int = 1024) -> None:
    """Write `count` JPEG DICOMs of `side` x `side` pixels, made of the radiographs in `images`,
    each as often as needed; no two files are the same to the byte."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = (_sized(source.path, side) for source in find_image_files(images)[0])
    usable = list(islice((one for one in pixels if one is not None), count))
    if not usable:
        raise SystemExit(f"{images}: no radiographs to make DICOMs of")
    for number in range(count):
        path = folder / f"{number:05d}.dcm"
        write(dataset(usable[number % len(usable)]), path, JPEGBaseline8Bit)


def _sized(path: Path, side: int) -> NDArray[np.uint8] | None:
    try:
        image = Image.fromarray(read(path).pixels)
    except RadiographError:
        return None  # a table of labels, for instance
    return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))
