"""Paths, bytes, file objects, datasets and arrays: the same pixels, limits and sentences."""

import copy
import io
import os
import tempfile
import threading
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
)

from lungbox.radiograph import Radiograph, RadiographError, limits, read, read_metadata, size
from tests import bombs, dicoms

NOISE = np.random.default_rng(2).integers(0, 4096, (48, 64))
TWELVE_BITS = [s for s in dicoms.LOSSLESS if s != JPEGBaseline8Bit]
# pydicom warns of damage.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def radiograph(syntax=ExplicitVRLittleEndian) -> pydicom.FileDataset:
    """One that goes through rescale, window, inversion and padding, and is no square."""
    ds = dicoms.dataset(NOISE, bits=12, syntax=syntax)
    ds.PhotometricInterpretation, ds.PixelPaddingValue = "MONOCHROME1", 7
    ds.RescaleSlope, ds.RescaleIntercept = 2, -100
    ds.WindowCenter, ds.WindowWidth = [3000, 9], [5000, 9]
    ds.ViewPosition, ds.PixelSpacing = "LL", [0.15, 0.2]
    return ds


def forms(path: Path):
    """A file's content in every form it can be given."""
    content = path.read_bytes()
    yield path
    yield str(path)
    yield content
    yield bytearray(content)
    yield io.BytesIO(content)


def outcome(look, source):
    """What a function gives, or says: of two sources it must be the same."""
    try:
        found = look(source)
    except RadiographError as error:
        return str(error)
    if isinstance(found, Radiograph):
        return found.pixels.tobytes(), found.size, found.flag, found.metadata
    return found


@pytest.mark.parametrize("syntax", TWELVE_BITS, ids=lambda uid: uid.keyword)
def test_every_form_of_a_dicom_file_is_the_file(tmp_path, syntax):
    path = dicoms.write(radiograph(syntax), tmp_path / "a.dcm", syntax)
    expected = outcome(read, path)
    assert len(set(expected[0])) > 100
    assert expected[1:3] == ((64, 48), "view LL")
    assert expected[3].pixel_spacing == (0.15, 0.2)
    for form in [*forms(path), pydicom.dcmread(path), parsed(path), deferred(path)]:
        assert outcome(read, form) == expected, type(form)
    for form in [*forms(path), pydicom.dcmread(path), parsed(path)]:
        assert (size(form), read_metadata(form)) == ((64, 48), read_metadata(path)), type(form)


def parsed(path):
    ds = pydicom.dcmread(path)
    assert list(ds.iterall())  # each element becomes an object
    return ds


def deferred(path):
    """Its pixel data is read from the file when it is used."""
    return pydicom.dcmread(path, defer_size=100)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_a_dataset_without_file_meta(tmp_path, syntax):
    path = dicoms.write(radiograph(syntax), tmp_path / "a.dcm", syntax)
    ds = pydicom.dcmread(path)
    del ds.file_meta
    assert outcome(read, ds) == outcome(read, path)
    assert not hasattr(ds, "file_meta")


def test_a_dataset_made_in_memory(tmp_path):
    ds, made = radiograph(), Dataset()
    for element in ds:
        made.add(element)
    assert made.original_encoding == (None, None)
    assert outcome(read, made) == outcome(read, dicoms.write(ds, tmp_path / "a.dcm"))


def test_a_compressed_dataset_without_file_meta(tmp_path):
    """How it is compressed is known from there alone."""
    ds = pydicom.dcmread(dicoms.write(radiograph(), tmp_path / "a.dcm", JPEG2000Lossless))
    del ds.file_meta
    with pytest.raises(RadiographError, match="Transfer Syntax UID is missing or wrong; save it"):
        read(ds)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLosslessSV1, JPEGBaseline8Bit])
def test_a_dataset_stays_as_it_is(tmp_path, syntax):
    """Though gaps are filled, and long values and sequences left out."""
    path = dicoms.write(dicoms.dataset(NOISE // 16), tmp_path / "a.dcm", syntax)
    ds = pydicom.dcmread(path)
    ds.PhotometricInterpretation = "monochrome2 "
    del ds.BitsStored, ds.PixelRepresentation
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 8], np.arange(256, dtype="<u2").tobytes()
    table["LUTData"].VR = "OW"
    table.LUTExplanation, table.TextValue = "reversed", "x" * 20_000
    ds.VOILUTSequence, ds.ReferencedImageSequence = [table], [Dataset()]
    ds.add_new(0x00091010, "OB", bytes(20_000))
    ds.save_as(path)
    for ds in (pydicom.dcmread(path), parsed(path)):
        before, meta = copy.deepcopy(ds), copy.deepcopy(ds.file_meta)
        assert outcome(read, ds) == outcome(read, path)
        assert (ds, ds.file_meta) == (before, meta)
        assert ds["VOILUTSequence"][0].TextValue == "x" * 20_000


def test_values_too_long_to_be_in_use_are_ignored_in_a_parsed_dataset_too(tmp_path):
    """Of numbers and of text; while a table of all 16-bit values is in use."""
    ds = dicoms.dataset(NOISE * 16, bits=16)
    ds.WindowCenter, ds.WindowWidth = [100] * 6_000, [7] * 6_000
    table = Dataset()
    table.LUTDescriptor = [0, 0, 16]
    table.add_new("LUTData", "US", list(range(65535, -1, -1)))
    path = dicoms.write(ds, tmp_path / "window.dcm")
    assert isinstance(parsed(path).WindowCenter, MultiValue)
    assert outcome(read, parsed(path)) == outcome(read, path)
    ds.VOILUTSequence = [table]
    assert np.abs(read(ds).pixels - (65535 - NOISE * 16) / 257).max() <= 0.51


def test_pydicoms_own_files_and_their_datasets():
    files = sorted((Path(pydicom.__file__).parent / "data/test_files").glob("*.dcm"))
    same = []
    for path in files:
        try:
            ds = pydicom.dcmread(path)
        except Exception:
            continue
        expected = outcome(read, path)
        assert outcome(read, path.read_bytes()) == expected, path.name
        if "cut off" not in expected:
            assert outcome(read, ds) == expected, path.name
        same.append(isinstance(expected, tuple))
    assert sum(same) > 50


@pytest.mark.parametrize(
    ("kind", "dtype"), [("PNG", np.uint8), ("PNG", np.uint16), ("JPEG", np.uint8)]
)
def test_every_form_of_a_picture_is_the_file(tmp_path, kind, dtype):
    image = Image.fromarray((NOISE * 16).astype(dtype))
    image.save(tmp_path / "a.dcm", kind)
    expected = outcome(read, tmp_path / "a.dcm")
    for form in forms(tmp_path / "a.dcm"):
        assert outcome(read, form) == expected
        assert size(form) == read_metadata(form).size == (64, 48)


@pytest.mark.parametrize(
    "make",
    [
        bombs.dicom_with_a_transfer_syntax_of_megabytes,
        bombs.dicom_one_pixel_wide,
        bombs.dicom_with_a_huge_offset_table,
        bombs.dicom_of_a_segmented_palette,
        bombs.png_one_pixel_high,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"hello" * 100),
        lambda path: path.write_bytes(bytes(128) + b"DICM\2\0"),
    ],
    ids=lambda make: make.__name__,
)
def test_the_same_sentence_for_every_form(tmp_path, make):
    make(tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    for look in (read, size, read_metadata):
        expected = outcome(look, tmp_path / "file")
        assert outcome(look, content) == outcome(look, io.BytesIO(content)) == expected
    assert isinstance(outcome(read, tmp_path / "file"), str)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"Rows": 20_000, "Columns": 20_000}, "20000 x 20000 pixels"),
        ({"Rows": 1, "Columns": 48 * 64}, "one side of a radiograph"),
        ({"Rows": None}, "no Rows"),
        ({"NumberOfFrames": 4}, "4 frames"),
        ({"PixelData": b""}, "without an image"),
        ({"PixelData": bytes(3_000_000)}, "3,000,000 bytes of pixel data"),
        ({"PixelData": b"\0\0"}, "less than expected"),
        ({"BitsAllocated": 12}, "cannot be decoded"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_the_same_sentence_for_a_dataset(tmp_path, change, complaint):
    ds = radiograph()
    for name, value in change.items():
        setattr(ds, name, value)
    with pytest.raises(RadiographError, match=complaint) as of_dataset:
        read(ds)
    assert str(of_dataset.value) == outcome(read, dicoms.write(ds, tmp_path / "a.dcm"))


def test_a_file_object_is_left_open_and_where_it_was(tmp_path):
    path = dicoms.write(radiograph(), tmp_path / "a.dcm")
    before = b"of another protocol"
    (tmp_path / "b").write_bytes(before + path.read_bytes())
    with (tmp_path / "b").open("rb") as file:
        file.seek(len(before))
        assert size(file) == (64, 48)
        assert outcome(read, file) == outcome(read, path)
        assert file.tell() == len(before)
    with tempfile.SpooledTemporaryFile() as upload:
        upload.write(path.read_bytes())
        upload.seek(0)
        assert outcome(read, upload) == outcome(read, path)
        assert read(upload).path is None
        assert read(upload).identity == ""


def test_a_file_object_that_cannot_be_put_back(tmp_path):
    path = dicoms.write(radiograph(), tmp_path / "a.dcm")
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as source, os.fdopen(writing, "wb") as sink:
        sender = threading.Thread(target=lambda: (sink.write(path.read_bytes()), sink.close()))
        sender.start()
        assert outcome(read, source) == outcome(read, path)
        sender.join()


def test_no_more_is_read_than_a_file_may_have(monkeypatch):
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size=-1):
            self.given += size
            return bytes(size)

    monkeypatch.setattr(limits, "MAX_FILE_BYTES", 5_000_000)
    endless = Endless()
    with pytest.raises(RadiographError, match="bytes, more than the 5,000,000"):
        read(endless)
    assert endless.given < 7_000_000
    with pytest.raises(RadiographError, match="5,000,001 bytes"):
        read(bytes(5_000_001))


def test_a_file_object_that_fails():
    class Broken(io.RawIOBase):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(RadiographError, match=r"cannot be read \(Input/output error\)"):
        read(Broken())


@pytest.mark.parametrize(
    "source", [None, 3, [1, 2], io.StringIO("text")], ids=["none", "number", "list", "text"]
)
def test_what_is_no_source(source):
    for look in (read, size, read_metadata):
        with pytest.raises(TypeError):
            look(source)


# --- arrays ---

COLOUR = np.random.default_rng(3).integers(0, 2**16, (48, 64, 4)).astype(np.uint16)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
def test_an_array_is_a_png_of_its_values(tmp_path, channels, dtype):
    values = COLOUR[..., :channels] if channels else COLOUR[..., 0]
    values = (values >> (8 if dtype == np.uint8 else 0)).astype(dtype)
    if channels == 2:
        if dtype == np.uint16:  # which neither Pillow nor OpenCV writes
            light = values[..., 0] * (values[..., 1] / 65535)
            assert np.abs(read(values).pixels - light / 257).max() <= 0.51
            return
        Image.fromarray(values, "LA").save(tmp_path / "a.png")
    else:
        blue_first = [2, 1, 0, 3][:channels]
        cv2.imwrite(str(tmp_path / "a.png"), values[..., blue_first] if channels > 2 else values)
    assert np.array_equal(read(values).pixels, read(tmp_path / "a.png").pixels)
    assert (read(values).path, read(values).size) == (None, (64, 48))
    assert size(values) == read_metadata(values).size == (64, 48)


def test_views_and_byte_orders_of_an_array():
    values = (NOISE // 16).astype(np.uint8)
    assert np.array_equal(read(values[::-1, ::2]).pixels, values[::-1, ::2])
    twelve_bits = NOISE.astype(np.uint16)
    assert np.array_equal(read(twelve_bits.astype(">u2")).pixels, read(twelve_bits).pixels)
    found = read(values)
    values[:] = 0
    assert found.pixels.any()


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (np.zeros((4, 4)), "array of float64; convert it to uint8 or uint16"),
        (np.zeros((4, 4), bool), "array of bool"),
        (np.zeros((4, 4), np.int16), "array of int16"),
        (np.zeros((4, 4), np.uint32), "array of uint32"),
        (np.zeros(16, np.uint8), r"shape \(16,\)"),
        (np.zeros((3, 48, 64), np.uint8), r"shape \(3, 48, 64\); give \(H, W\)"),
        (np.zeros((4, 4, 0), np.uint8), r"shape \(4, 4, 0\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"shape \(2, 4, 4, 3\)"),
        (np.zeros((0, 4), np.uint8), "no pixels"),
        (np.zeros((1, 17), np.uint8), "17 x 1 pixels; one side"),
        (np.broadcast_to(np.uint8(0), (10_001, 10_000)), "10000 x 10001 pixels, more than"),
        (np.broadcast_to(np.uint16(0), (10_000, 10_000, 3)), "decoding it takes 1.6 GB"),
    ],
    ids=lambda value: str(getattr(value, "shape", "")),
)
def test_arrays_that_are_no_radiographs(values, complaint):
    with pytest.raises(RadiographError, match=complaint):
        read(values)


def test_deflated_content_in_memory(tmp_path):
    """Whose elements are read from what was inflated, not from the bytes."""
    path = dicoms.write(
        radiograph(DeflatedExplicitVRLittleEndian), tmp_path / "a", DeflatedExplicitVRLittleEndian
    )
    assert outcome(read, dicoms.without_preamble(path).read_bytes()) == outcome(read, path)
