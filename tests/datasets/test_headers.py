"""What headers say, read without the pixels."""

import numpy as np
import pytest
from pydicom import config
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from lungbox.radiograph import HeaderMetadata, RadiographError, read_metadata, size
from lungbox.radiograph.metadata import age, sex, view
from tests import dicoms


@pytest.mark.parametrize(
    ("written", "years"),
    [("058Y", 58), ("58", 58), ("58.0", 58), ("018M", 1), ("003W", 0), ("800D", 2), ("124", 124),
     ("148", -1), ("413Y", -1), ("", -1), ("Y", -1), ("-3", -1), ("old", -1)],
)  # fmt: skip
def test_ages(written, years):
    assert age(written) == years


def test_views_and_sexes():
    written = ("AP", "pa", "AP PORTABLE", "PA\\AP", "LL", "CAPTURE", "")
    assert [view(one) for one in written] == ["AP", "PA", "AP", "", "", "", ""]
    assert [sex(one) for one in ("M", "f", "Female", "O", "UNKNOWN", "")] == [
        "M", "F", "F", "", "", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, JPEG2000Lossless]
)
def test_any_transfer_syntax(tmp_path, syntax):
    ds = dicoms.dataset(np.zeros((64, 96), np.uint8), syntax=syntax)
    ds.PatientID, ds.PatientSex, ds.ViewPosition = "someone", "F", "AP"
    with config.disable_value_validation():
        ds.PatientAge = "61"
        path = dicoms.write(ds, tmp_path / "a.dcm", syntax)
    assert read_metadata(path) == HeaderMetadata((96, 64), "AP", "F", 61, "someone")
    assert size(path) == (96, 64)


def test_pixels_are_not_read(tmp_path):
    path = dicoms.write(dicoms.dataset(np.zeros((64, 64), np.uint8)), tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:-4000])
    assert read_metadata(path).size == (64, 64)


@pytest.mark.parametrize("change", [{"Rows": 0}, {"Rows": 60000, "Columns": 60000}, {"Rows": None}])
def test_what_has_no_size_is_refused(tmp_path, change):
    ds = dicoms.dataset(np.zeros((8, 8), np.uint8))
    for name, value in change.items():
        setattr(ds, name, value)
    with pytest.raises(RadiographError, match=r"pixels|no Rows"):
        read_metadata(dicoms.write(ds, tmp_path / "a.dcm"))


def test_a_bomb_is_refused(tmp_path):
    with pytest.raises(RadiographError, match="larger than any radiograph"):
        read_metadata(dicoms.write_bomb(tmp_path / "a.dcm", 2**30))
