"""`lungbox score` and `python metrics.py`."""

import subprocess
import sys

import numpy as np
import pytest

from lungbox.boxes import geometry
from lungbox.datasets.phantom import draw, write_rsna
from lungbox.evaluation.submissions import score
from lungbox.submission import SubmissionError
from tests.conftest import ROOT


@pytest.fixture
def labels(tmp_path):
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


def test_perfect_boxes_score_one(tmp_path, labels):
    result = score(submit(tmp_path / "s.csv"), labels)
    assert (result.score, result.counted, result.images) == (1.0, 4, 6)


def test_a_false_alarm_counts_zero(tmp_path, labels):
    submission = submit(tmp_path / "s.csv", phantom_0000="0.5 0 0 10 10")
    assert score(submission, labels).score == pytest.approx(4 / 5)


def test_shrunk_boxes_lose_the_high_thresholds(tmp_path, labels):
    # 0.1 off each side leaves 0.64 of the area: hits at 0.4 to 0.6, five of eight.
    assert score(submit(tmp_path / "s.csv", shrink=0.1), labels).score == pytest.approx(5 / 8)


def test_missing_and_unknown_images(tmp_path, labels):
    path = submit(tmp_path / "s.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(SubmissionError, match="no row for phantom-0005"):
        score(path, labels)
    path.write_text("\n".join([*lines, "stranger,"]) + "\n")
    with pytest.raises(SubmissionError, match="names stranger"):
        score(path, labels)


def test_the_door(tmp_path, labels):
    submission = submit(tmp_path / "s.csv")
    command = [sys.executable, "metrics.py", str(submission), str(labels)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout == "RSNA metric 1.0000 over 4 of 6 images\n"
