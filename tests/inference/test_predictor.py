"""A detector's findings: what the ensemble's entry in the manifest says of them."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

import lungbox
from lungbox.cli.main import app
from lungbox.weights.entries import Calibration
from lungbox.weights.manifest import load_manifest, register_ensemble
from tests.tiny import SIDE, enter_tiny

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory):
    """An ensemble with a calibration and a second operating point, whose gate is closed."""
    folder = tmp_path_factory.mktemp("weights")
    enter_tiny(folder, "plain", rule="threshold", threshold=0.4994)
    known = load_manifest().ensemble("plain")
    points = {"closed": {"rule": "threshold", "threshold": 0.4994, "min_area": 0.0, "gate": 1.0}}
    calibration = Calibration(slope=2.0, intercept=0.5)
    entry = type(known)(
        **known.model_dump(exclude={"calibration", "operating_points"}),
        calibration=calibration,
        operating_points=points,
    )
    register_ensemble("calibrated", entry)


def test_a_calibrated_score_and_the_same_boxes(examples):
    path = next(examples.glob("*.png"))
    plain = lungbox.load("plain", "keras").predict(path)
    found = lungbox.load("calibrated", "keras").predict(path)
    logit = math.log(plain.image_score / (1 - plain.image_score))
    assert found.image_score == pytest.approx(1 / (1 + math.exp(-(2 * logit + 0.5))))
    assert np.array_equal(found.boxes, plain.boxes)
    assert len(found.boxes) > 0
    assert found.labels == ("lung opacity",) * len(found.boxes)
    assert (found.class_names, found.class_scores) == (("lung opacity",), ())


def test_the_mask_is_kept_on_request(examples):
    path = next(examples.glob("*.dcm"))
    detector = lungbox.load("plain", "keras")
    without, found = detector.predict(path), detector.predict(path, keep_mask=True)
    assert without.mask is None
    assert found.mask.shape == (SIDE // 4, SIDE // 4, 2)
    assert found != without
    assert found == detector.predict(path, keep_mask=True)
    assert found.to_record() == without.to_record()


def test_an_operating_point_by_its_name(examples, tmp_path):
    arguments = ["predict", str(examples), "--ensemble", "calibrated", "--engine", "keras"]
    for name, with_boxes in (("", True), ("closed", False)):
        output = tmp_path / (name or "default")
        chosen = ["--operating-point", name] if name else []
        result = CliRunner().invoke(app, [*arguments, "--output", str(output), *chosen])
        assert result.exit_code == 0, result.output
        rows = (output / "images.csv").read_text().splitlines()[1:]
        assert any(int(row.split(",")[2]) for row in rows) == with_boxes
        run = json.loads((output / "run.json").read_text())
        assert run["operating_point_name"] == (name or None)
        assert run["calibration"]["slope"] == 2.0
        assert run["calibration"]["intercept"] == 0.5
        withheld = "boxes were withheld because the image score is below the gate 1.0000"
        assert (withheld in result.output) != with_boxes
    with pytest.raises(lungbox.errors.LungboxError, match="did you mean closed"):
        lungbox.load("calibrated", operating_point="closd")


def test_boxes_behind_the_gate_are_withheld(examples):
    """What an open gate finds, with the gate on the scale of the score that is written."""
    path = next(examples.glob("*.png"))
    open_gate = lungbox.load("calibrated", "keras").predict(path)
    assert (open_gate.withheld, open_gate.gate) == ((), 0.0)
    found = lungbox.load("calibrated", "keras", operating_point="closed").predict(path)
    assert (len(found.boxes), found.gate) == (0, pytest.approx(1.0))
    assert [item.box for item in found.withheld] == [tuple(box) for box in open_gate.boxes.tolist()]
    assert [item.score for item in found.withheld] == pytest.approx(open_gate.scores.tolist())
    assert {(item.label, item.withheld_by) for item in found.withheld} == {("lung opacity", "gate")}


@pytest.mark.parametrize("offset", [-0.001, 0.001])
def test_a_gate_is_compared_with_the_written_score(examples, tmp_path, offset):
    path = next(examples.glob("*.png"))
    written = lungbox.load("calibrated", "keras").predict(path).image_score
    arguments = ["predict", str(path), "--ensemble", "calibrated", "--engine", "keras"]
    gate = ["--operating-point", "closed", "--gate", str(written + offset)]
    result = CliRunner().invoke(app, [*arguments, *gate, "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out/predictions.jsonl").read_text())
    assert bool(record["findings"]) == (offset < 0)
    assert bool(record.get("withheld")) == (offset > 0)
    if offset > 0:
        assert record["gate"] == pytest.approx(written + offset, abs=1e-6)


def test_a_prevalence_converts_scores_and_leaves_boxes(examples):
    known = load_manifest().ensemble("calibrated")
    calibration = known.calibration.model_copy(update={"prevalence": 0.25})
    point = known.operating_points["closed"].model_copy(update={"gate": 0.4})
    changes = {"calibration": calibration, "gate": 0.4, "operating_points": {"closed": point}}
    register_ensemble("shifted", known.model_copy(update=changes))
    path = next(examples.glob("*.png"))
    before = lungbox.load("shifted", "keras").predict(path)
    after = lungbox.load("shifted", "keras", prevalence=0.1).predict(path)
    odds = [found.image_score / (1 - found.image_score) for found in (before, after)]
    assert odds[1] == pytest.approx(odds[0] / 3)  # odds of 1 to 9 instead of 1 to 3
    assert np.array_equal(after.boxes, before.boxes)
    assert after.withheld == before.withheld
