"""Label issues are reported with file and line; the other labels are used."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungbox import datasets
from lungbox.boxes import geometry
from lungbox.datasets import tables
from lungbox.datasets.issues import BoxLabel, count, valid_boxes
from tests.datasets import kaggle

HEADER = "patientId,x,y,width,height,Target"
NAME = "0001e1f0-1"
SOUND = f"{NAME},100,200,300,400,1"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return kaggle.write_rsna(tmp_path_factory.mktemp("audit") / "rsna", 3)


@pytest.fixture
def load(written):
    """Load the three images with the rows given for the second of them."""

    def load(*rows, classes=(f"{NAME},Lung Opacity",)):
        others = ("0000e1f0-0,,,,,0", "0002e1f0-2,10,10,50,50,1")
        labels = "\n".join((HEADER, *rows, *others))
        (written / "stage_2_train_labels.csv").write_text(labels + "\n")
        known = ("0000e1f0-0,Normal", "0002e1f0-2,Lung Opacity")
        (written / "stage_2_detailed_class_info.csv").write_text(
            "\n".join(("patientId,class", *classes, *known)) + "\n"
        )
        loaded = datasets.load(written)
        found = {image.identity: image for image in loaded.images}
        assert found["0000e1f0-0"].boxes.shape == (0, 4)
        assert found["0002e1f0-2"].boxes.shape == (1, 4)  # nothing else is touched
        return found.get(NAME), loaded.issues

    return load


def test_sound_labels_have_no_issue(load):
    image, issues = load(SOUND)
    assert issues == ()
    assert np.allclose(image.boxes * 16, [[100, 200, 400, 600]], atol=1e-3)


@pytest.mark.parametrize(
    ("row", "kind", "what"),
    [
        (f"{NAME},100,200,0,400,1", "box without area", "0 x 400 pixels; left out"),
        (f"{NAME},100,200,-30,400,1", "box without area", "-30 x 400 pixels; left out"),
        (f"{NAME},2000,200,30,400,1", "box outside the image", "the image of 1024 x 1024"),
        (f"{NAME},nan,200,30,400,1", "box without numbers", "nan, 200, 30, 400"),
        (f"{NAME},100,,30,inf,1", "box without numbers", "100, nothing, 30, inf"),
        (f"{NAME},abc,200,30,400,1", "box without numbers", "abc, 200"),
        (f"{NAME},,,,,1", "target without box", "Target 1, but no box"),
        (f"{NAME},100,200,300,400,0", "box without target", "Target 0, but a box"),
        (f"{NAME},100,200,300,400,2", "unusable row", "its Target is 2"),
        (f"{NAME},100,200", "unusable row", "its Target is blank"),
    ],
)
def test_without_a_usable_box_an_image_is_uncertain(load, row, kind, what):
    image, issues = load(row)
    assert len(image.boxes) == 0
    assert image.uncertain
    assert not image.target
    issue = next(issue for issue in issues if issue.kind == kind)
    assert issue.startswith(f"stage_2_train_labels.csv, line 2, {NAME}: ")
    assert what in issue
    # Beside a box that is in order it is only left out.
    image, issues = load(row, SOUND)
    assert image.boxes.shape == (1, 4)
    assert not image.uncertain
    assert kind in [issue.kind for issue in issues]


def test_over_the_edge_is_cut_off(load):
    image, (issue,) = load(f"{NAME},-24,1000,124,100,1")
    assert np.allclose(image.boxes * 16, [[0, 1000, 100, 1024]], atol=1e-3)
    assert issue.kind == "box over the edge"


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ((SOUND, SOUND), "duplicate row"),
        ((SOUND, SOUND.replace("100", "100.0")), "duplicate box"),
        ((SOUND, f"{SOUND},1,2"), "unusable row"),
        ((SOUND, ",1,2,3,4,1"), "unusable row"),
        ((SOUND, f"{NAME},,,,,0"), "contradiction"),
        ((SOUND, "gone,,,,,0"), "label without file"),
    ],
)
def test_rows_too_many(load, rows, kind):
    image, issues = load(*rows)
    assert image.boxes.shape == (1, 4)
    issue = next(issue for issue in issues if issue.kind == kind)
    assert issue.startswith("stage_2_train_labels.csv, line 3")


def test_a_file_without_label(load):
    image, (issue,) = load()[0], load(classes=())[1]
    assert image is None
    assert issue.kind == "file without label"
    assert f"{NAME}.dcm: has no label" in issue


@pytest.mark.parametrize(
    ("classes", "kind", "category"),
    [
        ((f"{NAME},Pneumonia",), "unknown class", "Pneumonia"),
        ((f"{NAME},Normal",), "contradiction", "Normal"),
        ((f"{NAME},Lung Opacity", f"{NAME},Normal"), "contradiction", "Lung Opacity"),
        ((), "image without class", "Lung Opacity"),
    ],
)
def test_classes(load, classes, kind, category):
    image, issues = load(SOUND, classes=classes)
    assert kind in [issue.kind for issue in issues]
    assert "stage_2_detailed_class_info.csv" in issues[0]
    assert image.category == category


def test_issues_are_counted_by_kind(load):
    _, issues = load(SOUND, SOUND, SOUND, f"{SOUND},1")
    assert count(issues) == [("duplicate row", 2), ("unusable row", 1)]
    again = pickle.loads(pickle.dumps(issues[0]))
    assert (again, again.kind, again.line) == (issues[0], "duplicate row", 3)
    assert issues[0].what == f"{NAME} is in line 2 already; left out"


cells = st.one_of(
    st.floats(-2000, 2000).map(str), st.sampled_from(["", "nan", "inf", "1e308", "-1e308", "x"])
)


@given(st.lists(st.tuples(cells, cells, cells, cells), max_size=6), st.integers(1, 1500))
def test_what_is_left_is_sound(values, side):
    labels = [BoxLabel(f"row {n}", value) for n, value in enumerate(values)]
    boxes, names, issues = valid_boxes(labels, (side, 1024))
    assert names == ("lung opacity",) * len(boxes)
    assert boxes.shape[1:] == (4,)
    assert (geometry.clip(boxes, (side, 1024)) == boxes).all()
    assert np.isfinite(boxes).all()
    said = {issue.split(":")[0] for issue in issues if issue.kind != "box over the edge"}
    assert len(boxes) + len(said) == len(values)  # none is lost without a word


@given(st.text(max_size=300))
def test_no_table_stops_with_anything_but_a_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text("image_id,x\n" + content, encoding="utf-8", errors="replace")
    issues = []
    rows = tables.read_rows(path, ("image_id", "x"), issues)
    assert all(row.get("image_id") for row in rows)
