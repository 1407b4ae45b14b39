"""`lungbox score` and `python metrics.py`."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lungbox.boxes import geometry
from lungbox.constants import RSNA_CLASS_MIX
from lungbox.datasets.phantom import draw, write_rsna
from lungbox.evaluation.submissions import ClassesError, score
from lungbox.submission import SubmissionError
from tests.conftest import ROOT


@pytest.fixture
def labels(tmp_path):
    """Six phantoms, two each with no, one and two opacities."""
    write_rsna(tmp_path, count=6, size=128)
    return tmp_path / "stage_2_train_labels.csv"


def submit(path, shrink=0.0, **changes):
    lines = ["patientId,PredictionString"]
    for number in range(6):
        boxes = draw(128, number % 3, np.random.default_rng((0, number))).boxes * 8
        strings = [
            "0.9 " + " ".join(map(str, box))
            for box in geometry.to_xywh(geometry.shrink(boxes, shrink)).tolist()
        ]
        name = f"phantom-{number:04d}"
        lines.append(f"{name},{changes.get(name.replace('-', '_'), ' '.join(strings))}")
    path.write_text("\n".join(lines) + "\n")
    return path


def values(scored):
    return {figure.name: figure.value for figure in scored.figures}


def test_perfect_boxes_score_one(tmp_path, labels):
    result = score(submit(tmp_path / "s.csv"), labels)
    assert (result.challenge, result.counted, result.images) == ("RSNA", 4, 6)
    assert values(result) == {
        "RSNA metric, raw": 1,
        "recall of images (any box on a positive)": 1,
        "recall of boxes (IoU >= 0.4)": 1,
        "false-positive rate": 0,
    }


def test_a_false_alarm_counts_zero(tmp_path, labels):
    result = score(submit(tmp_path / "s.csv", phantom_0000="0.5 0 0 10 10"), labels)
    assert values(result)["RSNA metric, raw"] == pytest.approx(4 / 5)
    assert values(result)["false-positive rate"] == 0.5


def test_a_box_that_is_not_found(tmp_path, labels):
    """The first with one opacity has a box elsewhere, the other none."""
    submission = submit(tmp_path / "s.csv", phantom_0001="0.5 0 0 10 10", phantom_0004="")
    found = values(score(submission, labels))
    assert found["recall of images (any box on a positive)"] == 3 / 4
    assert found["recall of boxes (IoU >= 0.4)"] == 4 / 6
    assert found["RSNA metric, raw"] == 2 / 4


def test_shrunk_boxes_lose_the_high_thresholds(tmp_path, labels):
    # 0.1 off each side leaves 0.64 of the area: hits at 0.4 to 0.6, five of eight.
    found = values(score(submit(tmp_path / "s.csv", shrink=0.1), labels))
    assert found["RSNA metric, raw"] == pytest.approx(5 / 8)


def test_the_challenges_mix(tmp_path, labels):
    """A false alarm on the one image that is not normal weighs as much as its class."""
    classes = tmp_path / "classes.csv"
    names = ["Normal", "Lung Opacity", "Lung Opacity"] * 2
    names[3] = "No Lung Opacity / Not Normal"
    rows = [f"phantom-{number:04d},{name}\n" for number, name in enumerate(names)]
    classes.write_text("patientId,class\n" + "".join(rows))
    submission = submit(tmp_path / "s.csv", phantom_0003="0.5 0 0 10 10")
    found = values(score(submission, labels, classes))
    opacity, hard = (RSNA_CLASS_MIX[name] for name in ("Lung Opacity", names[3]))
    assert found["RSNA metric, challenge's mix"] == pytest.approx(opacity / (opacity + hard))
    assert found["RSNA metric, raw"] == pytest.approx(4 / 5)
    assert found["false-positive rate, normal"] == 0
    assert found["false-positive rate, not normal"] == 1
    # Without one of its classes there is no such mix.
    classes.write_text(classes.read_text().replace(names[3], "Normal"))
    assert "RSNA metric, challenge's mix" not in values(score(submission, labels, classes))


def test_patients_are_known_where_images_csv_says(tmp_path, labels):
    images = tmp_path / "images.csv"
    submission = submit(tmp_path / "s.csv", phantom_0000="0.5 0 0 10 10")
    apart = score(submission, labels).figures[0]
    rows = [f"phantom-{number:04d},p\n" for number in range(6)]
    images.write_text("patientId,group\n" + "".join(rows))
    result = score(submission, labels)
    assert result.patients == 1
    # One patient is drawn whole every time.
    assert result.figures[0].low == result.figures[0].high == pytest.approx(4 / 5)
    assert apart.low < apart.value < apart.high
    images.unlink()
    assert score(submission, labels).patients is None


def test_every_missing_and_unknown_image(tmp_path, labels):
    path = submit(tmp_path / "s.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-2], "stranger,", "foreigner,"]) + "\n")
    with pytest.raises(SubmissionError) as caught:
        score(path, labels)
    assert [str(error) for error in caught.value.errors] == [
        "line 6: names stranger, which is not among the images",
        "line 7: names foreigner, which is not among the images",
        "no row for phantom-0004",
        "no row for phantom-0005",
    ]


VINBIGDATA = """image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max
a,Cardiomegaly,3,R8,100,100,200,200
a,Cardiomegaly,3,R9,400,100,500,200
b,No finding,14,R1,,,,
b,No finding,14,R2,,,,
c,ILD,5,R2,0,0,50,50
"""


@pytest.fixture
def vinbigdata(tmp_path):
    (tmp_path / "train.csv").write_text(VINBIGDATA)
    (tmp_path / "v.csv").write_text(
        "image_id,PredictionString\n"
        "a,3 0.9 100 100 200 190 3 0.8 0 0 50 50 3 0.7 400 100 500 200\n"
        "b,14 1 0 0 1 1\n"
        "c,14 1 0 0 1 1\n"
    )
    return tmp_path / "v.csv", tmp_path / "train.csv"


def test_vinbigdata_by_hand(vinbigdata):
    result = score(*vinbigdata)
    # Class 3: hit, miss, hit. Class 14: b comes before c, which is as certain. Class 5: nothing.
    expected = 0.5 + 0.5 * 2 / 3
    assert values(result) == {
        "VinBigData metric (mAP at IoU > 0.4)": pytest.approx((expected + 1 + 0) / 3),
        "AP, Cardiomegaly": pytest.approx(expected),
        "AP, ILD": 0,
        "AP, No finding": 1,
    }
    assert result.challenge == "VinBigData"


def test_vinbigdata_has_no_classes_file(vinbigdata, tmp_path):
    with pytest.raises(ClassesError, match="only RSNA's"):
        score(*vinbigdata, classes=tmp_path / "classes.csv")


def test_a_submission_of_the_other_challenge(vinbigdata, labels):
    with pytest.raises(SubmissionError, match="has no column patientId"):
        score(vinbigdata[0], labels)


def door(*arguments):
    command = [sys.executable, "metrics.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_door_prints_a_table(tmp_path, labels):
    done = door(submit(tmp_path / "s.csv", phantom_0000="0.5 0 0 10 10"), labels)
    assert done.returncode == 0
    assert "RSNA: 5 of 6 images count" in done.stdout
    line = next(line for line in done.stdout.splitlines() if "RSNA metric, raw" in line)
    assert " 0.8000 " in line
    assert " 1.0000 " in line


def test_the_door_prints_json(tmp_path, labels):
    done = door(submit(tmp_path / "s.csv"), labels, "--json")
    assert done.returncode == 0
    record = json.loads(done.stdout)
    assert (record["challenge"], record["images"], record["counted"]) == ("RSNA", 6, 4)
    first = record["figures"][0]
    assert (first["name"], first["value"], first["images"]) == ("RSNA metric, raw", 1, 6)


def test_json_has_null_where_nothing_is_defined(tmp_path):
    labels, submission = tmp_path / "l.csv", tmp_path / "s.csv"
    labels.write_text("patientId,x,y,width,height,Target\na,,,,,0\n")
    submission.write_text("patientId,PredictionString\na,\n")
    figures = score(submission, labels).to_record()["figures"]
    assert figures[0]["value"] is figures[0]["low"] is None
    assert figures[-1]["value"] == 0
    json.dumps(figures, allow_nan=False)


def test_the_command_names_errors(tmp_path, labels):
    done = door(submit(tmp_path / "s.csv", phantom_0000="0.50.9 0 0 10"), labels, "--json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "2 errors" in done.stderr
    assert "line 2: '0.50.9' is not a number" in done.stderr


def test_scoring_imports_no_framework(tmp_path, labels):
    code = (
        "import sys; from lungbox.cli.main import main\n"
        "try: main(['score', *sys.argv[1:]])\n"
        "except SystemExit: pass\n"
        "print({'keras', 'tensorflow', 'openvino'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(submit(tmp_path / "s.csv")), str(labels)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
