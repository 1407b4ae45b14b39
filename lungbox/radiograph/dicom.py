"""DICOM to 8-bit gray, as a viewer would show it.

Stored values go through the modality LUT, then the VOI LUT or window, then MONOCHROME1 is
inverted (DICOM PS3.4, N.2). All of it is a function of the stored value alone, so it is worked
out once for each value that occurs and then looked up.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.errors import InvalidDicomError
from pydicom.pixels import pixel_array
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
)

from lungbox.radiograph.codestream import codestream_size
from lungbox.radiograph.levels import check_pixels, stretch
from lungbox.radiograph.types import RadiographError

# The fastest decoder that is exact, where it is not pydicom's first choice.
_DECODERS = {JPEGBaseline8Bit: "pillow", JPEG2000Lossless: "gdcm", JPEG2000: "gdcm"}
# Larger elements are read only once the header has been found in order.
_DEFER = 2**20
# ITU-R 601, as Pillow converts colour to gray.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# A full table of 16-bit values; wider data is mapped value by value.
_TABLE_SIZE = 2**16


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts like this (132 bytes or more) is DICOM.

    Either it has the standard's preamble, or it begins with an element of group 2 or 8, as files
    without the preamble do.
    """
    if start[128:132] == b"DICM":
        return True
    return start[:2] in (b"\x02\x00", b"\x08\x00") and start[2:4] != b"\x00\x00"


def read_header(path: Path) -> Dataset:
    """Read a DICOM file up to its pixels, and check that they can be a radiograph.

    Raises:
        RadiographError: it is damaged, has no image, several frames, or too many pixels.
    """
    try:
        dataset = pydicom.dcmread(path, force=True, defer_size=_DEFER)
        _complete_file_meta(dataset)
        _check_image(dataset)
    except RadiographError:
        raise
    except InvalidDicomError:
        raise RadiographError("not a DICOM file, though it begins like one") from None
    except Exception as error:  # a damaged header can raise anything
        raise RadiographError(f"the DICOM header is damaged ({_brief(error)})") from error
    return dataset


def read_pixels(dataset: Dataset) -> NDArray[np.uint8]:
    """Decode the pixels of `dataset` and map them to gray.

    Returns:
        `(Rows, Columns)` uint8, air dark, padding black.

    Raises:
        RadiographError: the pixel data is damaged or in an unsupported transfer syntax.
    """
    try:
        values = _decode(dataset)
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            values = apply_color_lut(values, dataset)
        if values.ndim == 3:
            return _luma(values)
        return _gray(values, dataset)
    except RadiographError:
        raise
    except Exception as error:  # decoders raise whatever they like on damaged data
        raise RadiographError(_undecodable(dataset, error)) from error


def _complete_file_meta(dataset: Dataset) -> None:
    """Files without file meta information say nothing of their transfer syntax."""
    if not hasattr(dataset, "file_meta"):
        dataset.ensure_file_meta()
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit = dataset.original_encoding[0]
        syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = syntax


def _check_image(dataset: Dataset) -> None:
    if "PixelData" not in dataset:
        what = getattr(dataset.get("SOPClassUID"), "name", "") or "no pixel data"
        raise RadiographError(f"a DICOM file without an image ({what})")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise RadiographError(
            f"it holds {frames} frames; save the one to read as a file of its own"
        )
    missing = [
        name
        for name in ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation")
        if dataset.get(name) in (None, "")
    ]
    if missing:
        raise RadiographError(f"the DICOM header has no {missing[0]}")
    check_pixels(int(dataset.Columns), int(dataset.Rows))


def _decode(dataset: Dataset) -> NDArray:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        # A decoder believes the image, not the header: an image of another size would take any
        # amount of memory before anybody noticed.
        inside = codestream_size(get_frame(dataset.PixelData, 0, number_of_frames=1))
        header = (int(dataset.Columns), int(dataset.Rows))
        if inside is not None and inside != header:
            raise RadiographError(
                "the DICOM header and the image inside disagree on its size "
                f"({header[0]} x {header[1]} and {inside[0]} x {inside[1]})"
            )
    return pixel_array(dataset, decoding_plugin=_DECODERS.get(syntax, ""))


def _undecodable(dataset: Dataset, error: Exception) -> str:
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == JPEGExtended12Bit and int(dataset.get("BitsStored", 8)) > 8:
        return (
            "lossy JPEG of 12 bits is decoded only by a GPL library that is not installed "
            "by itself: pip install pylibjpeg-libjpeg"
        )
    return (
        f"the pixel data cannot be decoded ({_brief(error)}); it is cut off, damaged or in an "
        f"unsupported form ({syntax.name})"
    )


def _luma(colour: NDArray) -> NDArray[np.uint8]:
    """`(H, W, 3)` RGB of 8 or 16 bits to gray. pydicom has converted YBR already."""
    gray = colour.astype(np.float32) @ _LUMA
    if colour.dtype.itemsize > 1:
        gray /= 257
    return np.round(gray).astype(np.uint8)


def _gray(values: NDArray, dataset: Dataset) -> NDArray[np.uint8]:
    padding = _padding(values, dataset)
    low, high = int(values.min()), int(values.max())
    if high - low < _TABLE_SIZE:
        used = values if padding is None else values[~padding]
        ramp = np.arange(low, high + 1, dtype=np.int32)
        counts = np.bincount((used.astype(np.int32) - low).ravel(), minlength=ramp.size)
        gray = _look_up(_render(ramp, counts, dataset), values, low)
    else:
        gray = _render(values, None, dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        gray = 255 - gray
    if padding is not None:
        gray[padding] = 0
    return gray


def _look_up(table: NDArray[np.uint8], values: NDArray, low: int) -> NDArray[np.uint8]:
    if values.dtype == np.uint8 and (table == np.arange(low, low + table.size)).all():
        return values.copy()
    return table[values.astype(np.int32) - low]


def _render(values: NDArray, counts: NDArray | None, dataset: Dataset) -> NDArray[np.uint8]:
    """Stored values to 0-255 through the modality LUT and the VOI LUT or window.

    `counts` says how often each value occurs, where `values` is a ramp.
    """
    modality = apply_modality_lut(values, dataset)
    if dataset.get("VOILUTSequence"):
        # The LUT is indexed by whole numbers; a rescale may have made them floats.
        looked_up = apply_voi(np.rint(modality).astype(np.int32), dataset)
        shares = looked_up / _brightest(dataset.VOILUTSequence[0])
    elif (window := _window(dataset)) is not None:
        shares = _apply_window(np.asarray(modality, np.float64), *window)
    elif int(dataset.get("BitsStored", 16)) <= 8 and np.array_equal(modality, values):
        # Eight bits without any transformation are gray levels as they stand.
        bits = int(dataset.get("BitsStored", 8))
        shares = (values - _lowest(dataset, bits)) / (2**bits - 1)
    else:
        shares = stretch(np.asarray(modality, np.float64), counts)
    return np.round(np.clip(shares, 0, 1) * 255).astype(np.uint8)


def _brightest(lut: Dataset) -> int:
    """The largest entry of a LUT: headers often claim more bits than its entries use."""
    data = lut.LUTData
    entries = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data)
    return max(1, int(entries.max()))


def _lowest(dataset: Dataset, bits: int) -> int:
    return -(2 ** (bits - 1)) if dataset.get("PixelRepresentation", 0) else 0


def _window(dataset: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window; None where there is no usable one."""
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    smallest = 1.0 if function == "LINEAR" else 0.0
    if centre is None or width is None or width <= smallest:
        return None
    return centre, width, function


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    if isinstance(value, str | float | int):
        return float(value)
    return float(value[0]) if len(value) else None


def _apply_window(
    values: NDArray[np.float64], centre: float, width: float, function: str
) -> NDArray[np.float64]:
    """DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, as shares of the output range."""
    if function == "SIGMOID":
        # Beyond these exponents the result is 0 or 1, and the exponential would overflow.
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -500, 500)))
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    return (values - (centre - 0.5)) / (width - 1) + 0.5


def _padding(values: NDArray, dataset: Dataset) -> NDArray[np.bool_] | None:
    """Where the detector saw nothing: pixels of the padding value, or in its range."""
    if not isinstance(start := dataset.get("PixelPaddingValue"), int):
        return None
    end = dataset.get("PixelPaddingRangeLimit", start)
    found = (values >= min(start, end)) & (values <= max(start, end))
    # An image of nothing but padding is one whose header is wrong.
    return found if found.any() and not found.all() else None


def _brief(error: Exception) -> str:
    """The first line of an exception, or its name."""
    text = str(error).strip().partition("\n")[0].rstrip(".")
    return text[:200] or type(error).__name__
