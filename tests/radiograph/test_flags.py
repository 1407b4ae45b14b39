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


def test_view_code(tmp_path):
    ds = dicoms.dataset(np.eye(16) * 255)
    del ds.ViewPosition
    code = Dataset()
    code.CodeValue, code.CodeMeaning = "399198007", "right lateral"
    ds.ViewCodeSequence = Sequence([code])
    assert read(dicoms.write(ds, tmp_path / "x.dcm")).flag == "view RIGHT LATERAL"
