"""RSNA's submissions: what is written is read back, and every error is named with its line."""

import gzip

import numpy as np
import pytest
from hypothesis import given

from lungbox.boxes import geometry
from lungbox.findings import Findings
from lungbox.submission import (
    StringError,
    SubmissionError,
    parse,
    prediction_string,
    read_ids,
    read_submission,
    rows,
)
from tests.submission.drawn import findings


@given(findings())
def test_strings_round_trip(found):
    again = parse(prediction_string(found), found.size)
    assert np.allclose(again.boxes, found.boxes, atol=0.016)
    assert np.allclose(again.scores, found.scores, atol=5.1e-5)


@given(findings())
def test_rescaled_strings_are_in_the_squares_space(found):
    again = parse(prediction_string(found, space=1024), (1024, 1024))
    expected = geometry.scale(found.boxes, found.size, (1024, 1024))
    assert np.allclose(again.boxes, expected, atol=0.016)


def test_the_challenges_own_format():
    found = Findings(
        "x",
        (1024, 1024),
        0.9,
        geometry.as_boxes([(100, 200, 300, 500), (600, 10, 700, 30)]),
        np.array([0.5, 0.25], np.float32),
        ("lung opacity",) * 2,
    )
    expected = "0.5000 100.00 200.00 200.00 300.00 0.2500 600.00 10.00 100.00 20.00"
    assert prediction_string(found) == expected


def test_ids_decide_the_rows():
    found = [Findings("b", (10, 10), 0.1), Findings("c", (10, 10), 0.1)]
    assert [name for name, _ in rows(found)] == ["b", "c"]
    assert [name for name, _ in rows(found, ids=["z", "c", "a"])] == ["z", "c", "a"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("patientId\nx\n", "no column PredictionString"),
        ("patientId,PredictionString\nx,0.5 1 2 3\n", "line 2: 4 numbers"),
        ("patientId,PredictionString\na,\nx,0.5 1 2 3 4 0.5\n", "line 3: 6 numbers"),
        ("patientId,PredictionString\nx,0.5 1 2 3 nan\n", "line 2: 'nan' is not a finite"),
        ("patientId,PredictionString\nx,0.5 1 2 3 4a\n", "line 2: '4a' is not a number"),
        ("patientId,PredictionString\nx,0.5 1 2 0 4\n", "line 2: a box has no width"),
        ("patientId,PredictionString\nx,1.5 1 2 3 4\n", "line 2: a confidence"),
        ("patientId,PredictionString\nx,\nx,\n", "line 3: x is there a second time"),
        ("patientId,PredictionString\nx,0.50.9 1 2 3 4\n", "line 2: '0.50.9' is not a number; two"),
        ("patientId,PredictionString\nx,0.5 1 2 3 4_0\n", "line 2: '4_0' is not a number"),
        ("patientId,PredictionString\nx,0.5 1 2 3 ٣\n", "line 2: '٣' is not a number"),
        ("patientId,PredictionString\nx,0.5 1 2 3 1e999\n", "line 2: '1e999' is not a finite"),
        ("patientId,PredictionString\nx,0.5 1 2 -3 4\n", "no width or height: -3 x 4 of box 1"),
        ("patientId,PredictionString\nx,0.5 -1 2 3 4\n", "line 2: box 1 is outside the image"),
        ("patientId,PredictionString\nx,0.5 1000 2 30 4\n", "outside the image of 1024 x 1024"),
        ("patientId,PredictionString\nx,0.5,1,2,3,4\n", "line 2: 6 cells, not the 2"),
        ("patientId,PredictionString\n,\n", "line 2: names no image"),
    ],
)
def test_errors_are_named(tmp_path, content, error):
    path = tmp_path / "submission.csv"
    path.write_text(content)
    with pytest.raises(SubmissionError) as caught:
        read_submission(path, size=(1024, 1024))
    assert error in str(caught.value)
    assert len(caught.value.errors) == 1


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


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_bytes(b"\xff\xfe\x00patientId")
    with pytest.raises(SubmissionError, match="not a CSV file"):
        read_submission(path)
    (tmp_path / "submission.csv.gz").write_bytes(b"patientId,PredictionString\n")
    with pytest.raises(SubmissionError, match="not a CSV file"):
        read_submission(tmp_path / "submission.csv.gz")


def test_numbers_in_any_common_form():
    found = parse(" +.5  1e1 2. 3.50 4 ")
    assert found.boxes.tolist() == [[10, 2, 13.5, 6]]
    assert found.scores.tolist() == [0.5]


def test_a_gzipped_file(tmp_path):
    path = tmp_path / "submission.csv.gz"
    path.write_bytes(gzip.compress(b"patientId,PredictionString\nx,0.5 1 2 3 4\n"))
    assert read_submission(path)["x"].boxes.tolist() == [[1, 2, 4, 6]]


def test_every_error_of_a_string_is_named():
    with pytest.raises(StringError) as caught:
        parse("1.5 0 0 10 10 0.5 0 0 0 10 -1 2000 0 10 10", (1024, 1024))
    assert caught.value.errors == (
        "a confidence is not between 0 and 1: 1.5 of box 1",
        "a confidence is not between 0 and 1: -1 of box 3",
        "a box has no width or height: 0 x 10 of box 2",
        "box 3 is outside the image of 1024 x 1024: 2000, 0, 2010, 10",
    )


def test_every_error_of_a_file_is_named(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("patientId,PredictionString\na,1 2\nz,\na,\nb,inf 0 0 1 1\n")
    with pytest.raises(SubmissionError) as caught:
        read_submission(path, ids=["a", "b", "c", "d"])
    assert str(caught.value).splitlines() == [
        f"{path}: 6 errors",
        "  line 2: 2 numbers, not 5 for each box (confidence x y width height)",
        "  line 3: names z, which is not among the images",
        "  line 4: a is there a second time",
        "  line 5: 'inf' is not a finite number",
        "  no row for c",
        "  no row for d",
    ]


def test_twenty_errors_are_printed(tmp_path):
    path = tmp_path / "submission.csv"
    path.write_text("patientId,PredictionString\n" + "".join(f"i{n},0.5\n" for n in range(33)))
    with pytest.raises(SubmissionError) as caught:
        read_submission(path)
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("33 errors")
    assert lines[1].startswith("  line 2: ")
    assert lines[20].startswith("  line 21: ")
    assert lines[21:] == ["  and 13 more"]
    assert len(caught.value.errors) == 33


def test_a_small_box_stays_a_box():
    found = Findings(
        "x",
        (1024, 1024),
        0.9,
        geometry.as_boxes([(1.001, 2, 1.004, 3)]),
        np.array([0.5], np.float32),
        ("lung opacity",) * 1,
    )
    assert len(parse(prediction_string(found)).boxes) == 1


@pytest.mark.parametrize("read", [read_ids, read_submission])
def test_an_empty_file_has_no_columns(tmp_path, read):
    path = tmp_path / "s.csv"
    path.write_text("")
    with pytest.raises(SubmissionError, match="line 1: has no column patientId"):
        read(path)


@pytest.mark.parametrize("wrong", ["-5 0 10 10", "0 -5 10 10", "90 0 20 10", "0 90 10 20"])
def test_only_the_box_outside_is_named(wrong):
    with pytest.raises(StringError) as caught:
        parse(f"0.5 1 1 2 2 0.5 {wrong} 0.5 3 3 4 4", (100, 100))
    assert len(caught.value.errors) == 1
    assert caught.value.errors[0].startswith("box 2 is outside the image of 100 x 100: ")


def test_rows_are_rescaled_and_empty_for_images_without_findings():
    boxes = geometry.as_boxes([(10, 20, 30, 60)])
    found = [Findings("a", (100, 200), 0.9, boxes, np.array([0.75], np.float32), ("x",))]
    assert list(rows(found, space=1024, ids=["b", "a"])) == [
        ("b", ""),
        ("a", "0.7500 102.40 102.40 204.80 204.80"),
    ]
    assert list(rows(found)) == [("a", "0.7500 10.00 20.00 20.00 40.00")]


def test_errors_of_a_sample_are_named_with_file_and_line(tmp_path):
    path = tmp_path / "sample.csv"
    path.write_text('patientId\na\nb,x\nb\na\na\n""\n')
    with pytest.raises(SubmissionError) as caught:
        read_ids(path)
    assert str(path) in str(caught.value)
    assert [str(error) for error in caught.value.errors] == [
        "line 3: 2 cells, not the 1 of the first line",
        "line 5: names a twice, first on line 2",
        "line 6: names a twice, first on line 2",
        "line 7: names no image",
    ]
