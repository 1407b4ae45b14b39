"""VinBigData's submissions: what is written is read back, and every error is named."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungbox.boxes import geometry
from lungbox.constants import VINBIGDATA_CLASSES, VINBIGDATA_NO_FINDING
from lungbox.findings import Findings
from lungbox.submission import StringError, SubmissionError
from lungbox.submission.vinbigdata import (
    NOTHING,
    parse,
    prediction_string,
    read_ids,
    read_submission,
    rows,
)
from tests.submission.drawn import findings

FOUND = VINBIGDATA_CLASSES[:VINBIGDATA_NO_FINDING]


@given(findings(FOUND))
def test_strings_round_trip(found):
    again = parse(prediction_string(found), found.size)
    if not len(found.boxes):
        assert again.classes.tolist() == [VINBIGDATA_NO_FINDING]
        assert again.scores.tolist() == [1]
        assert again.boxes.tolist() == [[0, 0, 1, 1]]
        return
    assert [VINBIGDATA_CLASSES[number] for number in again.classes] == list(found.labels)
    assert np.allclose(again.boxes, found.boxes, atol=0.011)
    assert np.allclose(again.scores, found.scores, atol=5.1e-5)


@given(st.lists(findings(FOUND), unique_by=lambda found: found.identity, max_size=4))
def test_files_round_trip(tmp_path_factory, drawn):
    path = tmp_path_factory.mktemp("submission") / "submission.csv"
    lines = [f"{name},{string}\n" for name, string in rows(drawn)]
    path.write_text("image_id,PredictionString\n" + "".join(lines))
    sizes = {found.identity: found.size for found in drawn}
    again = read_submission(path, [found.identity for found in drawn], sizes)
    assert [len(again[found.identity].boxes) for found in drawn] == [
        max(1, len(found.boxes)) for found in drawn
    ]


def test_the_challenges_own_format():
    found = Findings(
        "x",
        (2000, 2500),
        0.9,
        geometry.as_boxes([(691, 1375, 1653, 1831.5)]),
        np.array([0.5], np.float32),
        ("cardiomegaly",),
    )
    assert prediction_string(found) == "3 0.5000 691.00 1375.00 1653.00 1831.50"
    assert prediction_string(Findings("y", (10, 10), 0.1)) == NOTHING == "14 1 0 0 1 1"
    written = rows([found], ids=["a", "x"])
    assert [(name, string[:4]) for name, string in written] == [("a", "14 1"), ("x", "3 0.")]


@given(findings(FOUND), st.floats(1e-3, 1))
def test_no_finding_is_written_beside_boxes(found, confidence):
    unsure = replace(found, no_finding=confidence)
    again = parse(prediction_string(unsure), found.size)
    assert again.classes[0] == VINBIGDATA_NO_FINDING
    assert again.scores[0] == pytest.approx(confidence, abs=5.1e-5)
    assert again.boxes[0].tolist() == [0, 0, 1, 1]
    if len(found.boxes):
        alone = parse(prediction_string(found), found.size)
        assert np.array_equal(again.boxes[1:], alone.boxes)
        assert np.array_equal(again.classes[1:], alone.classes)


def test_a_class_that_is_not_theirs():
    box = geometry.as_boxes([(0, 0, 9, 9)])
    found = Findings("x", (10, 10), 0.9, box, np.ones(1, np.float32), ("fracture",))
    with pytest.raises(ValueError, match="no class 'fracture'"):
        prediction_string(found)


@pytest.mark.parametrize(
    ("string", "error"),
    [
        ("", "is empty; where nothing was found, write 14 1 0 0 1 1"),
        ("3 0.5 0 0 10", "5 numbers, not 6 for each box (class confidence x1 y1 x2 y2)"),
        ("3 0.50.9 0 0 10 10", "'0.50.9' is not a number; two may be joined"),
        ("14 1 0 0 1 13 0.5 0 0 10 10", "11 numbers"),
        ("15 0.5 0 0 10 10", "box 1 has the class 15"),
        ("-1 0.5 0 0 10 10", "box 1 has the class -1"),
        ("2.5 0.5 0 0 10 10", "box 1 has the class 2.5, not a whole number from 0 to 14"),
        ("3 1.2 0 0 10 10", "a confidence is not between 0 and 1"),
        ("3 0.5 10 0 0 10", "no width or height: -10 x 10"),
        ("3 0.5 0 0 10 101", "box 1 is outside the image of 100 x 100"),
        ("3 0.5 -5 0 10 10", "box 1 is outside the image"),
        ("14 1 0 0 10 10", "box 1 is of class 14, nothing found, but not 0 0 1 1"),
        ("3 0.5 0 0 nan 10", "'nan' is not a finite number"),
    ],
)
def test_errors_are_named(string, error):
    with pytest.raises(StringError) as caught:
        parse(string, (100, 100))
    assert any(error in text for text in caught.value.errors)


def test_every_error_of_a_file_is_named(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text(
        "image_id,PredictionString\n"
        "a,3 0.5 0 0 50 10 3 2 0 0 10 10\n"
        "b,\n"
        "b,14 1 0 0 1 1\n"
        "z,14 1 0 0 1 1\n"
    )
    with pytest.raises(SubmissionError) as caught:
        read_submission(path, ids=["a", "b", "c"], sizes={"a": (40, 40)})
    assert [(error.line, error.text.split()[0]) for error in caught.value.errors] == [
        (2, "a"),
        (2, "box"),
        (3, "is"),
        (4, "b"),
        (5, "names"),
        (None, "no"),
    ]


def test_ids_of_a_sample(tmp_path):
    path = tmp_path / "sample_submission.csv"
    path.write_text("image_id,PredictionString\nb,14 1 0 0 1 1\na,14 1 0 0 1 1\n")
    assert read_ids(path) == ["b", "a"]
