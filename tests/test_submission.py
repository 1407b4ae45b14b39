"""Submissions: what is written is read back, and faults are named with their line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungbox.boxes import geometry
from lungbox.findings import Findings, opacities
from lungbox.submission import (
    SubmissionError,
    parse,
    prediction_string,
    read_ids,
    read_submission,
    rows,
)


@st.composite
def findings(draw):
    width, height = draw(st.integers(64, 4000)), draw(st.integers(64, 4000))
    boxes = draw(
        st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0.05, 0.5)), max_size=4)
    )
    corners = [(x * width, y * height, (x + s) * width, (y + s) * height) for x, y, s in boxes]
    scores = draw(st.lists(st.floats(0, 1), min_size=len(boxes), max_size=len(boxes)))
    clipped = geometry.clip(geometry.as_boxes(corners), (width, height))
    identity = draw(st.from_regex(r"[a-z0-9.\-]{1,12}", fullmatch=True))
    return Findings(
        identity, (width, height), 0.5, clipped, np.array(scores, np.float32), opacities(len(boxes))
    )


@given(findings())
def test_strings_round_trip(found):
    again = parse(prediction_string(found))
    assert np.allclose(again.boxes, found.boxes, atol=0.011)
    assert np.allclose(again.scores, found.scores, atol=5.1e-5)


@given(findings())
def test_rescaled_strings_are_in_the_squares_space(found):
    again = parse(prediction_string(found, space=1024))
    expected = geometry.scale(found.boxes, found.size, (1024, 1024))
    assert np.allclose(again.boxes, expected, atol=0.011)


def test_the_challenges_own_format():
    found = Findings(
        "x",
        (1024, 1024),
        0.9,
        geometry.as_boxes([(100, 200, 300, 500), (600, 10, 700, 30)]),
        np.array([0.5, 0.25], np.float32),
        opacities(2),
    )
    expected = "0.5000 100.00 200.00 200.00 300.00 0.2500 600.00 10.00 100.00 20.00"
    assert prediction_string(found) == expected


def test_ids_decide_the_rows():
    found = [Findings("b", (10, 10), 0.1), Findings("c", (10, 10), 0.1)]
    assert [name for name, _ in rows(found)] == ["b", "c"]
    assert [name for name, _ in rows(found, ids=["z", "c", "a"])] == ["z", "c", "a"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("patientId\nx\n", "no column PredictionString"),
        ("patientId,PredictionString\nx,0.5 1 2 3\n", "line 2: 4 numbers"),
        ("patientId,PredictionString\na,\nx,0.5 1 2 3 4 0.5\n", "line 3: 6 numbers"),
        ("patientId,PredictionString\nx,0.5 1 2 3 nan\n", "line 2: 'nan' is not a finite"),
        ("patientId,PredictionString\nx,0.5 1 2 3 4a\n", "line 2: '4a' is not a number"),
        ("patientId,PredictionString\nx,0.5 1 2 0 4\n", "line 2: a box has no width"),
        ("patientId,PredictionString\nx,1.5 1 2 3 4\n", "line 2: a confidence"),
        ("patientId,PredictionString\nx,\nx,\n", "line 3: x stands there a second time"),
    ],
)
def test_faults_are_named(tmp_path, content, fault):
    path = tmp_path / "submission.csv"
    path.write_text(content)
    with pytest.raises(SubmissionError) as caught:
        read_submission(path)
    assert fault in str(caught.value)


def test_ids_of_a_sample(tmp_path):
    path = tmp_path / "sample.csv"
    path.write_text("patientId,PredictionString\nb,0.5 0 0 100 100\na,0.5 0 0 100 100\n")
    assert read_ids(path) == ["b", "a"]
    path.write_text("patientId\nb\nb\n")
    with pytest.raises(SubmissionError, match="names b twice"):
        read_ids(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(SubmissionError, match="cannot be opened"):
        read_submission(tmp_path / "none.csv")
