"""`lungbox tune` of several findings: what is chosen, by whom, and that it is registered."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from lungbox import datasets
from lungbox.boxes import OperatingPoint
from lungbox.cli import main
from lungbox.datasets.types import Dataset
from lungbox.evaluation.findings import voc_estimates
from lungbox.evaluation.operating_point import PARTS, patient_parts
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.evaluation.tune_findings import FindingsGrid, cross_fit_findings
from lungbox.weights.manifest import load_manifest
from tests.fourteen import CLASSES, drawn_predictions, entered, write_vinbigdata

GRID = FindingsGrid(min_scores=(0.05, 0.3), ious=(0.3, 0.6), gates=4, upper_gates=3)
OWN = OperatingPoint(threshold=0.4)


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    data = write_vinbigdata(tmp_path_factory.mktemp("drawn"), count=60)
    return drawn_predictions(datasets.as_findings(datasets.load(data), CLASSES))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with entered(tmp_path_factory.mktemp("findings")) as data:
        yield data


def run(command, data, *options):
    return CliRunner().invoke(main.app, [command, "--data", str(data), *map(str, options)])


def value(predictions, point, chosen=None):
    """The metric of some of the images, by the code of the evaluation."""
    rows = np.arange(len(predictions.dataset)) if chosen is None else np.flatnonzero(chosen)
    images = tuple(predictions.dataset.images[row] for row in rows)
    ((boxes, scores, weight),) = predictions.detections
    part = DatasetPredictions(
        Dataset(images, class_names=predictions.dataset.class_names),
        None,
        predictions.scores[rows],
        ((boxes[rows], scores[rows], weight),),
    )
    points = [point] * len(rows)
    found = [part.boxes(row, point) for row in range(len(rows))]
    estimates = voc_estimates(part, found, points)
    return (estimates.challenge or estimates.findings).value


def test_the_best_point_of_the_grid_is_chosen_on_other_patients(predictions):
    fitted = cross_fit_findings(predictions, OWN, GRID)
    point = fitted.point
    assert (point.threshold, point.min_area, point.shrink) == (0.4, 0, 0)
    assert 0 < point.gate < point.upper_gate
    every = value(predictions, point)
    others = [
        replace(point, gate=0.0),
        replace(point, upper_gate=0.0),
        replace(point, gate=0.0, upper_gate=0.0),
        *(replace(point, min_score=score) for score in GRID.min_scores),
        *(replace(point, nms_iou=iou, fusion_iou=iou) for iou in GRID.ious),
    ]
    assert all(value(predictions, other) <= every + 1e-9 for other in others)
    assert value(predictions, others[2]) < every - 0.01
    parts = patient_parts(predictions.dataset, PARTS, 2024)
    for part in range(PARTS):
        (of_part,) = {fitted.points[row] for row in np.flatnonzero(parts == part)}
        best = value(predictions, of_part, parts != part)
        for other in [*others, *set(fitted.points)]:
            assert value(predictions, other, parts != part) <= best + 1e-9


def test_without_vinbigdatas_classes_there_is_one_gate(predictions):
    names = tuple(f"my {name}" for name in predictions.dataset.class_names)
    images = tuple(
        replace(image, labels=tuple(f"my {label}" for label in image.labels))
        for image in predictions.dataset.images
    )
    own = replace(predictions, dataset=Dataset(images, class_names=names))
    fitted = cross_fit_findings(own, OWN, GRID)
    assert fitted.point.upper_gate == 0
    best = value(own, fitted.point)
    for gate in (0.0, 0.3, 0.6):
        assert value(own, replace(fitted.point, gate=gate)) <= best + 1e-9


def test_the_result_is_registered_and_predicts(home):
    result = run("tune", home, "--ensemble", "findings", "--save", "tuned")
    assert result.exit_code == 0, result.output
    assert "min_score = " in result.stdout
    assert "cross-fitted" in result.stdout
    tuned = load_manifest().ensemble("tuned")
    assert (tuned.members, tuned.min_area) == (("findings_detector", "findings_gate"), 0)
    assert tuned.note.startswith("`python -m lungbox tune` on fold 0: VinBigData metric")
    assert f"gate = {tuned.gate}" in result.stdout
    assert run("evaluate", home, "--ensemble", "tuned").exit_code == 0


def test_a_classifier_has_no_point_to_choose(home):
    result = run("tune", home, "--ensemble", "findings_gate")
    assert "findings_gate predicts no boxes" in str(result.exception)
