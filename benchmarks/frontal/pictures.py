"""Images that are no chest radiograph and that the frontal check has not learned from."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pydicom.data
import skimage.data
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont, UnidentifiedImageError

from lungbox.radiograph import RadiographError, read

Image = NDArray[np.uint8]

SIDE = 512
# pydicom's test files of each kind; copies of one image in other transfer syntaxes are left out.
_CT = ("CT_small.dcm", "693_J2KI.dcm", "dicomdirtests/*/CT*/*")
_MR = ("MR_small.dcm", "emri_small.dcm", "dicomdirtests/*/MR*/*", "examples_overlay.dcm")
_OTHER = (
    "JPEG2000.dcm",
    "JPEG-lossy.dcm",
    "JPEGLSNearLossless_08.dcm",
    "SC_rgb.dcm",
    "SC_rgb_jpeg.dcm",
    "US1_UNCR.dcm",
    "examples_jpeg2k.dcm",
    "examples_palette.dcm",
    "examples_rgb_color.dcm",
    "examples_ybr_color.dcm",
    "image_dfl.dcm",
    "liver_1frame.dcm",
    "rtdose_1frame.dcm",
    "dicomdirtests/*/CR*/*",
)


def groups() -> Iterator[tuple[str, dict[str, Image]]]:
    """Names of groups, and their images `(H, W)` uint8 by name."""
    yield "scikit-image's pictures", _pictures(Path(skimage.data.__file__).parent)
    photographs = _pictures(Path(matplotlib.get_data_path()) / "sample_data")
    try:
        import sklearn.datasets

        photographs |= _pictures(Path(sklearn.datasets.__file__).parent / "images")
    except ImportError:
        pass
    yield "photographs of scikit-learn and Matplotlib", photographs
    for name, files in (("CT", _CT), ("MR", _MR), ("other", _OTHER)):
        yield f"pydicom's test files, {name}", _dicom_files(files)
    yield "Gaussian and uniform noise", _noise()
    yield "smooth noise", _smooth_noise()
    yield (
        "black, white, gray",
        {str(gray): np.full((SIDE, SIDE), gray, np.uint8) for gray in (0, 128, 255)},
    )
    yield "gradients", _gradients()
    yield "checkerboards and stripes", _boards()
    yield "pages of text", _pages()


def _pictures(folder: Path) -> dict[str, Image]:
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".png", ".jpg", ".gif", ".tif"):
            try:
                with Picture.open(path) as picture:
                    found[path.name] = np.asarray(picture.convert("L"))
            except UnidentifiedImageError:
                continue
    return found


def _dicom_files(patterns: tuple[str, ...]) -> dict[str, Image]:
    """Those that come with the package and that Lungbox reads."""
    folder = Path(pydicom.data.__file__).parent / "test_files"
    found = {}
    for path in (path for pattern in patterns for path in sorted(folder.glob(pattern))):
        try:
            found[path.relative_to(folder).as_posix()] = read(path).pixels
        except RadiographError:
            continue
    return found


def _noise() -> dict[str, Image]:
    random = np.random.default_rng(0)
    found = {}
    for side in (64, 256, 1024):
        for number in range(10):
            normal = np.clip(random.normal(128, 40, (side, side)), 0, 255).astype(np.uint8)
            found[f"normal {side} {number}"] = normal
            found[f"uniform {side} {number}"] = random.integers(0, 256, (side, side), np.uint8)
    return found


def _smooth_noise() -> dict[str, Image]:
    random = np.random.default_rng(1)
    found = {}
    for sigma in (4, 8, 16, 32, 64, 128):
        for number in range(10):
            values = cv2.GaussianBlur(random.normal(0, 1, (SIDE, SIDE)), (0, 0), sigma)
            found[f"{sigma} px {number}"] = _scaled(values)
    return found


def _gradients() -> dict[str, Image]:
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) - 0.5
    found = {
        f"{degrees} degrees": _scaled(x * np.cos(angle) + y * np.sin(angle))
        for degrees in range(0, 360, 15)
        for angle in [np.deg2rad(degrees)]
    }
    radial = _scaled(np.hypot(x, y))
    return found | {"radial": radial, "radial, bright": 255 - radial}


def _boards() -> dict[str, Image]:
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    found = {}
    for count in (2, 3, 4, 6, 8, 16, 32, 64):
        columns, rows = (x * count).astype(int), (y * count).astype(int)
        for name, values in (("board", columns + rows), ("columns", columns), ("rows", rows)):
            found[f"{count} {name}"] = (values % 2 * 255).astype(np.uint8)
    return found


def _pages() -> dict[str, Image]:
    found = {}
    text = "Findings: the lungs are clear. There is no effusion and no pneumothorax. "
    for size in (12, 16, 24):
        for share in (0.2, 0.6, 1.0):
            page = Picture.new("L", (620, 877), 255)
            pen, font = ImageDraw.Draw(page), ImageFont.load_default(size)
            for line in range(int(share * 800 / (1.4 * size))):
                shown = (text * 2)[line % 40 :]
                pen.text((50, 30 + line * 1.4 * size), shown, fill=0, font=font)
            found[f"{size} px {share:.0%}"] = np.asarray(page)
            found[f"{size} px {share:.0%}, white on black"] = 255 - np.asarray(page)
    return found


def _scaled(values: NDArray[np.floating]) -> Image:
    low, high = values.min(), values.max()
    return ((values - low) / (high - low) * 255).astype(np.uint8)
