"""Records that hold arrays are compared and hashed by value."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from lungbox.boxes.geometry import as_boxes
from lungbox.datasets import Dataset, LabelledRadiograph
from lungbox.findings import Findings
from lungbox.inference.files import ImageFile
from lungbox.inference.predictor import ImageResult
from lungbox.radiograph import Radiograph
from lungbox.submission import SubmittedBoxes
from lungbox.submission.vinbigdata import SubmittedClassBoxes

CORNERS = ((1.5, 2, 30, 40.25), (0, 0, 200, 100))


def findings():
    scores = np.array([0.9, 0.5], np.float32)
    return Findings(
        "1.2.840", (200, 100), 0.75, as_boxes(CORNERS), scores, ("lung opacity",) * 2, "a.dcm"
    )


def labelled():
    return LabelledRadiograph(
        identity="1.2.840",
        path=Path("a.png"),
        source="rsna",
        size=(200, 100),
        boxes=as_boxes(CORNERS),
        target=True,
        category="Lung Opacity",
        patient="p",
    )


def pixels():
    return np.arange(12, dtype=np.uint8).reshape(3, 4)


def outcome():
    mask = np.linspace(0, 1, 24, dtype=np.float32).reshape(3, 4, 2)
    source = ImageFile(Path("a.png"), "a", "a.png")
    return ImageResult(source, findings(), mask, radiograph=Radiograph(pixels(), Path("a.png")))


MADE = (
    findings,
    labelled,
    outcome,
    lambda: Radiograph(pixels(), Path("a.png"), "view LL"),
    lambda: SubmittedBoxes(as_boxes(CORNERS), np.array([0.9, 0.5], np.float32)),
    lambda: SubmittedClassBoxes(as_boxes(CORNERS), np.ones(2, np.float32), np.array([3, 14])),
)
CASES = [
    pytest.param(make, field.name, id=f"{type(make()).__name__}.{field.name}")
    for make in MADE
    for field in fields(make())
    if isinstance(getattr(make(), field.name), np.ndarray)
]


@pytest.mark.parametrize("make", MADE, ids=lambda make: type(make()).__name__)
def test_equal_where_all_fields_are(make):
    one, other = make(), make()
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1
    assert one != "something else"


@pytest.mark.parametrize(("make", "name"), CASES)
def test_one_number_of_an_array_makes_the_difference(make, name):
    record, array = make(), getattr(make(), name).copy()
    array.flat[-1] -= 0.25 if array.dtype.kind == "f" else 1
    changed = replace(record, **{name: array})
    assert changed != record
    assert len({record, changed}) == 2


def test_a_plain_field_makes_the_difference():
    for other in (replace(labelled(), fold=3), replace(labelled(), size=(100, 200))):
        assert other != labelled()
    assert replace(findings(), flag="view LL") != findings()
    assert replace(outcome(), mask=None) != outcome()


def test_boxes_of_another_number_or_none():
    none = replace(labelled(), boxes=as_boxes([]), labels=())
    assert none != labelled()
    assert none == replace(labelled(), boxes=as_boxes([]), labels=())


def test_equal_numbers_of_another_type_have_the_same_hash():
    """-0 is 0, and 1.5 is 1.5 in any precision; their bytes differ."""
    corners = np.array(CORNERS, np.float64)
    corners[1, :2] = -0.0
    other = replace(findings(), boxes=corners)
    assert other == findings()
    assert hash(other) == hash(findings())


def test_data_sets_can_be_compared_and_split_by_sets():
    """Loaded twice, the images are equal, though they are not the same objects."""
    assert Dataset((labelled(), labelled())) == Dataset((labelled(), labelled()))
    assert {labelled()} - {labelled()} == set()
