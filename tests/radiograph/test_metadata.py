"""What a radiograph keeps of its header: as it stands there, or empty, and never shown."""

import dataclasses

import numpy as np
import pytest
from pydicom import config, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from lungbox.radiograph import HeaderMetadata, SourceMetadata, read, read_metadata
from tests import dicoms

VALUES = np.random.default_rng(1).integers(0, 256, (48, 64)).astype(np.uint8)
EXPECTED = {
    "sop_instance_uid": "1.2.840.113619.2.5",
    "sop_class_uid": dicoms.COMPUTED_RADIOGRAPHY,
    "study_instance_uid": "1.2.840.113619.2.6",
    "series_instance_uid": "1.2.840.113619.2.7.1",  # of even length with its padding
    "frame_of_reference_uid": "1.2.840.113619.2.8",
    "rows": 48,
    "columns": 64,
    "photometric_interpretation": "MONOCHROME1",
    "pixel_spacing": (0.139, 0.143),
    "imager_pixel_spacing": (0.15, 0.16),
    "image_laterality": "U",
    "view_position": "PA",
    "patient_orientation": ("L", "F"),
    "patient_id": "Mü-4711",
    "study_id": "S 12",
    "accession_number": "A0099",
}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def keyword(name: str) -> str:
    parts = {"sop": "SOP", "uid": "UID", "id": "ID"}
    return "".join(parts.get(word, word.capitalize()) for word in name.split("_"))


def full(syntax=ExplicitVRLittleEndian):
    ds = dicoms.dataset(VALUES, syntax=syntax)
    ds.SpecificCharacterSet = "ISO_IR 100"
    for name, value in EXPECTED.items():
        setattr(ds, keyword(name), list(value) if isinstance(value, tuple) else value)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_every_attribute(tmp_path, syntax):
    path = dicoms.write(full(syntax), tmp_path / "a.dcm", syntax)
    parsed = dcmread(path)
    assert list(parsed.iterall())
    for source in (path, path.read_bytes(), dcmread(path), parsed, full(syntax)):
        found = read(source).metadata
        assert dataclasses.asdict(found) == EXPECTED
        assert {type(side) for side in found.pixel_spacing} == {float}
        assert hash(found) == hash(SourceMetadata(**EXPECTED))


@pytest.mark.parametrize("value", [None, "absent"])
def test_absent_and_empty_attributes(tmp_path, value):
    ds = full()
    for name in EXPECTED:
        if name not in ("rows", "columns", "photometric_interpretation"):
            if value is None:
                setattr(ds, keyword(name), None)
            else:
                delattr(ds, keyword(name))
    path = tmp_path / "a.dcm"
    ds.save_as(path)
    for source in (path, dcmread(path)):
        assert read(source).metadata == SourceMetadata(
            rows=48, columns=64, photometric_interpretation="MONOCHROME1"
        )


@pytest.mark.parametrize(
    ("name", "vr", "value", "kept"),
    [
        ("PixelSpacing", "DS", "0.1", None),
        ("PixelSpacing", "DS", "0.1\\0.2\\0.3", None),
        ("PixelSpacing", "DS", "0\\0.2", None),
        ("PixelSpacing", "DS", "-0.1\\0.2", None),
        ("PixelSpacing", "DS", "nan\\inf", None),
        ("PixelSpacing", "DS", "0,1\\0,2", None),
        ("PixelSpacing", "DS", " 1.5e-1 \\0.2 ", (0.15, 0.2)),
        ("ImagerPixelSpacing", "LO", "x" * 20_000, None),
        ("StudyInstanceUID", "UI", "not a uid", ""),
        ("StudyInstanceUID", "UI", "1." * 40 + "1", ""),
        ("SeriesInstanceUID", "UI", "1.02.3", "1.02.3"),  # wrong, and other objects refer to it
        ("SOPInstanceUID", "UI", "1.2\\1.3", ""),
        ("ViewPosition", "CS", "p.a.?", "p.a.?"),
        ("PatientOrientation", "CS", "L", ("L",)),
        ("PatientOrientation", "CS", "L\\F\\H", ("L", "F", "H")),
        ("PatientID", "LO", "x" * 20_000, ""),
    ],
)
def test_damaged_attributes_are_left_empty(tmp_path, name, vr, value, kept):
    """They are not needed for the pixels, which are read all the same."""
    ds = dicoms.dataset(VALUES)
    with config.disable_value_validation():
        ds.add_new(name, "LT" if vr != "UI" else vr, value)
        path = tmp_path / "a.dcm"
        ds.save_as(path)
    field = next(field for field in EXPECTED if keyword(field) == name)
    for source in (path, path.read_bytes(), dcmread(path)):
        found = read(source)
        assert getattr(found.metadata, field) == kept
        assert np.array_equal(found.pixels, VALUES)


@pytest.mark.parametrize("sets", ["ISO_IR 192", "ISO 2022 IR 6\\ISO 2022 IR 87", "NO SUCH SET", ""])
def test_identifiers_in_other_character_sets(tmp_path, sets):
    ds = full()
    encodings = {"ISO_IR 192": "Mü-4711", "ISO 2022 IR 6\\ISO 2022 IR 87": "山田-4711"}
    ds.SpecificCharacterSet, ds.PatientID = sets.split("\\"), encodings.get(sets, "4711")
    path = tmp_path / "a.dcm"
    ds.save_as(path)
    for source in (path, dcmread(path)):
        assert read(source).metadata.patient_id == encodings.get(sets, "4711")
        assert read_metadata(source).patient == encodings.get(sets, "4711")


def test_bytes_that_are_no_text(tmp_path):
    ds = full()
    ds.SpecificCharacterSet, ds.PatientID = "ISO_IR 192", "47-11"
    path = tmp_path / "a.dcm"
    ds.save_as(path)
    path.write_bytes(path.read_bytes().replace(b"47-11", b"47\xff11"))
    assert read(path).metadata.patient_id == "47\ufffd11"


def test_other_formats_have_none():
    assert read(VALUES).metadata == SourceMetadata()
    assert read(VALUES).flag == ""


def test_repr_leaves_out_what_identifies_the_patient(tmp_path):
    found = read(dicoms.write(full(), tmp_path / "a.dcm"))
    header = read_metadata(tmp_path / "a.dcm")
    assert header == HeaderMetadata((64, 48), "PA", patient="Mü-4711")
    for text in (repr(found), repr(found.metadata), str(found.metadata), repr(header)):
        assert not [secret for secret in ("4711", "S 12", "A0099", "Phantom") if secret in text]
    assert "1.2.840.113619.2.5" in repr(found.metadata)
