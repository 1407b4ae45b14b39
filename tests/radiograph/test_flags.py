"""What a header says against a frontal chest radiograph, and what says nothing."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from lungbox.radiograph import read
from tests import dicoms


@pytest.mark.parametrize(
    ("header", "flag"),
    [
        ({}, ""),
        ({"ViewPosition": "AP"}, ""),
        ({"ViewPosition": "LL"}, "view LL"),
        ({"ViewPosition": "LATERAL"}, "view LATERAL"),
        ({"Modality": "CT"}, "modality CT"),
        ({"Modality": "DX"}, ""),
        ({"BodyPartExamined": "ABDOMEN"}, "body part ABDOMEN"),
        ({"BodyPartExamined": "PORT CHEST"}, ""),
        ({"BodyPartExamined": ""}, ""),
        ({"ViewPosition": "", "SeriesDescription": "Chest Lat"}, "view CHEST LAT"),
        ({"ViewPosition": "", "SeriesDescription": "Chest PA and lateral"}, ""),
        ({"ViewPosition": "PA", "SeriesDescription": "Chest lateral"}, ""),
        ({"ViewPosition": "", "SeriesDescription": "Flat panel"}, ""),
    ],
)
def test_flags(tmp_path, header, flag):
    ds = dicoms.dataset(np.eye(16) * 255)
    for name, value in header.items():
        setattr(ds, name, value)
    assert read(dicoms.write(ds, tmp_path / "x.dcm")).flag == flag


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize(
    ("part", "flag"),
    [
        ("KNEE\r\n=1+1", "body part KNEE =1+1"),
        ("KNEE " * 40, "body part " + "KNEE " * 17 + "KN..."),
        ("K" * 200_000, ""),
    ],
    ids=["two lines", "long", "absurd"],
)
def test_flags_are_one_short_line(tmp_path, part, flag):
    """What is absurdly long is no body part."""
    ds = dicoms.dataset(np.eye(16) * 255)
    ds.add_new(0x00180015, "UT", part)
    assert read(dicoms.write(ds, tmp_path / "x.dcm")).flag == flag


def test_view_code(tmp_path):
    ds = dicoms.dataset(np.eye(16) * 255)
    del ds.ViewPosition
    code = Dataset()
    code.CodeValue, code.CodeMeaning = "399198007", "right lateral"
    ds.ViewCodeSequence = Sequence([code])
    assert read(dicoms.write(ds, tmp_path / "x.dcm")).flag == "view RIGHT LATERAL"
