"""DICOM files that are cut off, damaged, full of gaps or made to hurt: read, or one sentence."""

import time
import tracemalloc

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from lungbox.datasets.phantom import draw
from lungbox.radiograph import RadiographError, read, size
from tests import dicoms

CHEST = draw(64, 2, np.random.default_rng(7)).pixels
NOISE = np.random.default_rng(1).integers(0, 256, (64, 64)).astype(np.uint8)
ALL = dicoms.LOSSLESS + dicoms.LOSSY
COMPRESSED = [syntax for syntax in ALL if syntax.is_encapsulated]
# One for each decoder.
DECODERS = (
    ExplicitVRLittleEndian,
    RLELossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
)

# pydicom warns of damage, and the command line keeps that to itself.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("syntax", ALL, ids=lambda uid: uid.keyword)
def test_files_that_are_cut_off(tmp_path, syntax, share):
    path = dicoms.write(dicoms.dataset(NOISE, syntax=syntax), tmp_path / "cut.dcm", syntax)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    complaint = complaint_or_pixels(path)
    if share <= 0.5 or syntax in (*dicoms.UNCOMPRESSED, ExplicitVRBigEndian):
        assert complaint  # nothing makes up for pixels that are not there


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda uid: uid.keyword)
def test_a_cut_off_file_is_said_to_be_cut_off(tmp_path, syntax):
    path = dicoms.write(dicoms.dataset(NOISE), tmp_path / "cut.dcm", syntax)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RadiographError, match="cut off; copy it again"):
        read(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("colour", [False, True], ids=["gray", "colour"])
@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda uid: uid.keyword)
def test_images_that_are_cut_off_inside_an_intact_file(tmp_path, syntax, colour, share):
    values = np.stack([NOISE] * 3, axis=-1) if colour else NOISE
    path = dicoms.write(dicoms.dataset(values), tmp_path / "cut.dcm", syntax)
    dicoms.damage_image(path, lambda image: image[: int(len(image) * share)])
    complaint = complaint_or_pixels(path)
    if share <= 0.5:
        assert "cut off" in complaint
    assert "NoneType" not in complaint


@pytest.mark.parametrize("odd", [0, 1])
def test_a_jpeg_ls_image_without_its_end_is_refused_at_once(tmp_path, odd):
    """Its decoder takes seconds of computing to notice, whatever the image's size."""
    path = dicoms.write(dicoms.dataset(NOISE), tmp_path / "cut.dcm", JPEGLSLossless)
    dicoms.damage_image(path, lambda image: image[: len(image) // 4 * 2 + odd])
    started = time.process_time()
    with pytest.raises(RadiographError, match="the image inside is cut off"):
        read(path)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda uid: uid.keyword)
def test_images_with_wrong_bytes_inside(tmp_path, syntax, seed):
    random = np.random.default_rng(seed)

    def spoil(image: bytes) -> bytes:
        values = np.frombuffer(image, np.uint8).copy()
        places = random.integers(20 if seed % 2 else 200, len(values), 8)
        values[places] = random.integers(0, 256, 8)
        return values.tobytes()

    path = dicoms.write(dicoms.dataset(NOISE), tmp_path / "spoilt.dcm", syntax)
    complaint_or_pixels(dicoms.damage_image(path, spoil))


@pytest.mark.parametrize("missing", [1, 2048])
def test_uncompressed_pixels_must_all_be_there(tmp_path, missing):
    """In a file that is otherwise whole."""
    ds = dicoms.dataset(NOISE.astype(int), bits=16)
    ds.PixelData = ds.PixelData[: -2 * missing]
    with pytest.raises(RadiographError, match="less than expected"):
        read(dicoms.write(ds, tmp_path / "short.dcm"))


def test_pixel_data_without_any_pixels(tmp_path):
    ds = dicoms.dataset(CHEST)
    ds.PixelData = b""
    with pytest.raises(RadiographError, match="without an image"):
        read(dicoms.write(ds, tmp_path / "empty.dcm"))


def test_a_report_is_said_to_be_one(tmp_path):
    ds = dicoms.dataset(CHEST)
    for name in ("PixelData", "Rows", "Columns"):
        del ds[name]
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    with pytest.raises(RadiographError, match=r"without an image \(Basic Text SR Storage\)"):
        read(dicoms.write(ds, tmp_path / "report.dcm"))


@pytest.mark.parametrize("name", ["FloatPixelData", "DoubleFloatPixelData"])
def test_a_parametric_map_is_no_radiograph(tmp_path, name):
    ds = dicoms.dataset(CHEST)
    for gone in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        del ds[gone]
    wide = name.startswith("Double")
    ds.BitsAllocated = 64 if wide else 32
    setattr(ds, name, CHEST.astype("<f8" if wide else "<f4").tobytes())
    with pytest.raises(RadiographError, match="parametric map"):
        read(dicoms.write(ds, tmp_path / "map.dcm"))


@pytest.mark.parametrize("empty", [False, True], ids=["absent", "empty"])
@pytest.mark.parametrize("name", ["Rows", "Columns", "BitsAllocated", "PhotometricInterpretation"])
@pytest.mark.parametrize("syntax", DECODERS, ids=lambda uid: uid.keyword)
def test_what_a_header_must_say(tmp_path, syntax, name, empty):
    path = with_gap(tmp_path / "gap.dcm", CHEST, syntax, name, empty)
    with pytest.raises(RadiographError, match=f"^the DICOM header has no {name}$"):
        read(path)


@pytest.mark.parametrize("empty", [False, True], ids=["absent", "empty"])
@pytest.mark.parametrize("colour", [False, True], ids=["gray", "colour"])
@pytest.mark.parametrize(
    "name",
    ["SamplesPerPixel", "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration"],
)
@pytest.mark.parametrize("syntax", DECODERS, ids=lambda uid: uid.keyword)
def test_what_a_header_need_not_say(tmp_path, syntax, name, colour, empty):
    values = np.stack([CHEST] * 3, axis=-1) if colour else CHEST
    path = with_gap(tmp_path / "gap.dcm", values, syntax, name, empty)
    difference = np.abs(read(path).pixels.astype(int) - CHEST)
    assert difference.max() <= (0 if syntax != JPEGBaseline8Bit else 20)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BitsAllocated", 0),
        ("BitsAllocated", 12),
        ("BitsAllocated", 16),
        ("BitsAllocated", [8, 8]),
        ("BitsStored", 16),
        ("SamplesPerPixel", 3),
        ("PixelRepresentation", 7),
        ("PhotometricInterpretation", "MONOCHROME"),
        ("Rows", 0),
        ("Rows", 65),
        ("Rows", [64, 64]),
        ("NumberOfFrames", "-1"),
    ],
)
def test_headers_that_cannot_be_right(tmp_path, name, value):
    ds = dicoms.dataset(CHEST)
    setattr(ds, name, value)
    assert complaint_or_pixels(dicoms.write(ds, tmp_path / "wrong.dcm"))


@pytest.mark.parametrize("preamble", [True, False])
def test_a_small_file_that_inflates_to_a_huge_one(tmp_path, preamble):
    path = dicoms.write_bomb(tmp_path / "bomb.dcm", 1000 * 2**20)
    assert path.stat().st_size < 5e6
    if not preamble:
        dicoms.without_preamble(path)
    tracemalloc.start()
    try:
        for look in (read, size):
            with pytest.raises(RadiographError, match="larger than any radiograph"):
                look(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_a_deflated_file_whose_group_lies_about_its_length(tmp_path):
    """So that the bomb would be looked for in the wrong place."""
    path = dicoms.write_bomb(tmp_path / "bomb.dcm", 1000 * 2**20)
    content = bytearray(path.read_bytes())
    content[140:144] = (len(content) - 144).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(RadiographError, match="larger than any radiograph"):
        read(path)


def with_gap(path, values, syntax, name, empty):
    """A file in `syntax` whose header lacks an element, or has it without a value."""
    ds = pydicom.dcmread(dicoms.write(dicoms.dataset(values), path, syntax))
    if empty:
        setattr(ds, name, None)
    elif name in ds:
        del ds[name]
    ds.save_as(path)
    return path


def complaint_or_pixels(path, shape=(64, 64)) -> str:
    """What is wrong with a file: one sentence; empty where it gives pixels of the right shape."""
    try:
        pixels = read(path).pixels
    except RadiographError as error:
        complaint = str(error)
        assert 10 < len(complaint) < 500
        assert "\n" not in complaint
        assert path.name not in complaint
        return complaint
    assert pixels.shape == shape
    assert pixels.dtype == np.uint8
    return ""
