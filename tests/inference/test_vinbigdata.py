"""`predict` with an ensemble of VinBigData's findings writes VinBigData's submission."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from lungbox.cli import main
from lungbox.constants import VINBIGDATA_CLASSES
from lungbox.evaluation.submissions import score
from lungbox.submission.vinbigdata import read_submission
from tests.fourteen import enter_findings, registered, write_vinbigdata

# The gate's scores of the drawn images are on both sides of each.
LOW, HIGH = 0.115, 0.26


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The data, and the results of a run on its images."""
    folder = tmp_path_factory.mktemp("vinbigdata")
    data = write_vinbigdata(folder / "data")
    with registered(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUNGBOX_HOME", str(folder / "home"))
        enter_findings(folder, gate=LOW, upper_gate=HIGH, min_score=0.3)
        yield data, folder


def predict(run, output, *options):
    data, folder = run
    arguments = ["predict", data / "train", "--ensemble", "findings", "--output", folder / output]
    result = CliRunner().invoke(main.app, [*map(str, arguments), *map(str, options)])
    return result, folder / output


def test_the_two_gates_decide_what_is_written(run):
    result, folder = predict(run, "all")
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    submitted = read_submission(
        folder / "submission.csv",
        [one["id"] for one in found],
        {one["id"]: (200, 160) for one in found},
    )
    kinds = {"alone": 0, "both": 0, "boxes": 0}
    for one in found:
        row, image_score = submitted[one["id"]], one["image_score"]
        nothing = row.classes == 14
        if image_score < LOW:
            kinds["alone"] += 1
            assert (row.classes.tolist(), row.scores.tolist()) == ([14], [1])
            assert one["findings"] == []
            continue
        if image_score < HIGH:
            kinds["both"] += 1
            assert nothing.tolist() == [True] + [False] * len(one["findings"])
            assert row.scores[0] == pytest.approx(1 - image_score, abs=1e-4)
            assert one["no_finding"] == pytest.approx(1 - image_score, abs=1e-5)
        else:
            kinds["boxes"] += 1
            assert not nothing.any()
            assert "no_finding" not in one
        boxes = np.array([box["box"] for box in one["findings"]])
        assert row.boxes[~nothing] == pytest.approx(boxes, abs=0.011)
        names = [VINBIGDATA_CLASSES[number] for number in row.classes[~nothing]]
        assert names == [box["label"] for box in one["findings"]]
    assert min(kinds.values()) >= 3, kinds


def test_a_submission_is_scored(run):
    data, _ = run
    _, folder = predict(run, "scored")
    labels = data / "train.csv"
    result = score(folder / "submission.csv", labels)
    values = {figure.name: figure.value for figure in result.figures}
    assert result.challenge == "VinBigData"
    assert set(values) == {
        "VinBigData metric (mAP at IoU > 0.4)", "AP, Cardiomegaly", "AP, Aortic enlargement",
        "AP, Nodule/Mass", "AP, Lung Opacity", "AP, No finding",
    }  # fmt: skip
    assert 0 < values["AP, No finding"] < 1
    parts = [value for name, value in values.items() if name.startswith("AP")]
    assert values["VinBigData metric (mAP at IoU > 0.4)"] == pytest.approx(np.mean(parts))


def test_a_sample_gives_the_rows(run, tmp_path):
    sample = tmp_path / "sample.csv"
    sample.write_text("image_id,PredictionString\n003,14 1 0 0 1 1\nother,14 1 0 0 1 1\n")
    result, folder = predict(run, "sampled", "--ids", sample)
    assert result.exit_code == 0, result.output
    lines = (folder / "submission.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["image_id", "003", "other"]
    assert lines[2] == "other,14 1 0 0 1 1"


def test_a_size_of_the_submission_is_refused(run):
    result, _ = predict(run, "refused", "--submission-size", 1024)
    assert "in pixels of each file; leave out --submission-size" in str(result.exception)
