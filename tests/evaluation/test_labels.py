"""Label files: told apart by their columns, and every error named with its line."""

import gzip

import pytest

from lungbox.datasets import rsna
from lungbox.evaluation.labels import LabelsError, read_labels, values_by_image

RSNA = "patientId,x,y,width,height,Target\n"
VINBIGDATA = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"


def write(path, text):
    path.write_text(text)
    return path


def test_rsna(tmp_path):
    rows = "a,1,2,3,4,1\nb,,,,,0\na,5.0,6.0,7.0,8.0,1\n"
    found = read_labels(write(tmp_path / "l.csv", RSNA + rows))
    assert (found.challenge, found.ids) == ("RSNA", ("a", "b"))
    assert [boxes.tolist() for boxes in found.boxes] == [[[1, 2, 4, 6], [5, 6, 12, 14]], []]


def test_vinbigdata_takes_every_readers_box_and_one_no_finding(tmp_path):
    rows = (
        "a,Cardiomegaly,3,R8,10,20,30,40\n"
        "b,No finding,14,R1,,,,\n"
        "a,Cardiomegaly,3,R9,10,20,30,40\n"
        "b,No finding,14,R2,,,,\n"
        "b,ILD,5,R3,1,2,3,4\n"
    )
    path = tmp_path / "train.csv.gz"
    path.write_bytes(gzip.compress((VINBIGDATA + rows).encode()))
    found = read_labels(path)
    assert (found.challenge, found.ids) == ("VinBigData", ("a", "b"))
    assert [classes.tolist() for classes in found.classes] == [[3, 3], [14, 5]]
    assert [boxes.tolist() for boxes in found.boxes] == [
        [[10, 20, 30, 40], [10, 20, 30, 40]],
        [[0, 0, 1, 1], [1, 2, 3, 4]],
    ]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("a,b\n1,2\n", "line 1: has neither RSNA's columns"),
        ("", "line 1: has neither RSNA's columns"),
        (RSNA, "labels no image"),
        (RSNA + "a,1,2,3,4,2\n", "line 2: its Target is 2, neither 0 nor 1"),
        (RSNA + "b,,,,,0\na,1,,3,4,1\n", "line 3: its box is 1, nothing, 3, 4, not four numbers"),
        (RSNA + "a,1,2,0,4,1\n", "line 2: its box is 0 x 4 pixels"),
        (RSNA + "a,1,2,nan,4,1\n", "line 2: its box is 1, 2, nan, 4, not four numbers"),
        (RSNA + "a,1\n", "line 2: its Target is blank"),
        (VINBIGDATA + "a,X,15,R1,1,2,3,4\n", "line 2: '15' is no class, 0 to 14"),
        (VINBIGDATA + "a,ILD,5,R1,3,2,1,4\n", "line 2: its box is -2 x 2 pixels"),
    ],
)
def test_errors_are_named(tmp_path, content, error):
    with pytest.raises(LabelsError) as caught:
        read_labels(write(tmp_path / "l.csv", content))
    assert error in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(LabelsError, match="cannot be opened"):
        read_labels(tmp_path / "none.csv")


def test_a_column_for_each_image(tmp_path):
    path = write(tmp_path / "c.csv", "patientId,class\nb,Normal\na,Lung Opacity\na,Lung Opacity\n")
    assert values_by_image(path, "class", ["a", "b"]) == ["Lung Opacity", "Normal"]
    with pytest.raises(LabelsError, match="has no class for c"):
        values_by_image(path, "class", ["a", "c"])
    with pytest.raises(LabelsError, match="has no column group"):
        values_by_image(path, "group", ["a"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,1,2,3,4,1\n", "line 3: a is in line 2 already"),
        ("a,1.0,2,3,4,1\n", "line 3: the same box is there twice"),
        ("a,,,,,0\n", "line 3: Target both 0 and 1"),
        ("b,1,2,3,4,0\n", "line 3: Target 0, but a box"),
        ("b,,,,,1\n", "line 3: Target 1, but no box"),
        (",,,,,0\n", "line 3: has no patientId"),
        ("b,,,,,0,7\n", "line 3: has 7 cells where the header has 6"),
    ],
)
def test_scoring_refuses_what_training_leaves_out(tmp_path, row, message):
    path = write(tmp_path / "l.csv", RSNA + "a,1,2,3,4,1\n" + row)
    with pytest.raises(LabelsError) as caught:
        read_labels(path)
    assert str(caught.value) == f"{path}, {message}"
    assert rsna.read_labels(path, [])["a"].boxes[0].values == ("1", "2", "3", "4")


def test_numbers_are_read_as_training_reads_them(tmp_path):
    rows = "a, 900 ,2,300,4,1.0\nb,,,,, 0\n"
    found = read_labels(write(tmp_path / "l.csv", RSNA + rows))
    # Beyond the image's edge, too: the challenge's metric takes boxes as they are labelled.
    assert [boxes.tolist() for boxes in found.boxes] == [[[900, 2, 1200, 6]], []]


def test_labels_that_a_spreadsheet_has_saved(tmp_path):
    text = (RSNA + "Müller,1,2,3,4,1\n").replace(",", ";")
    (tmp_path / "l.csv").write_bytes(text.encode("cp1252"))
    assert read_labels(tmp_path / "l.csv").ids == ("Müller",)


@pytest.mark.real
def test_the_challenges_own_files(shared):
    found = read_labels(shared / "vinbigdata/train.csv.gz")
    assert len(found.ids) == 15_000
    counts = [classes.tolist().count(14) for classes in found.classes]
    assert (max(counts), sum(counts)) == (1, 10_606)
    assert sum(len(boxes) for boxes in found.boxes) == 67_914 - 31_818 + 10_606
    rsna = read_labels(shared / "rsna/stage_2_train_labels.csv")
    assert sum(len(boxes) > 0 for boxes in rsna.boxes) == 914
