"""Ensembles of several findings: figures by plain computation, tables, and what is refused."""

import numpy as np
import pytest
from typer.testing import CliRunner

from lungbox import datasets
from lungbox.boxes import OperatingPoint
from lungbox.cli import main
from lungbox.datasets.types import LabelledRadiograph
from lungbox.evaluation.findings import (
    AGAINST_NORMAL,
    CHALLENGE,
    COCO,
    GATE_GAIN,
    VOC,
    WITHOUT_GATE,
    score_findings,
)
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.metrics import auc, coco_average_precision
from lungbox.metrics.matching import BoxTable
from tests.fourteen import CLASSES, PLACES, drawn_predictions, entered, write_vinbigdata

GATE, UPPER = 0.3, 0.8
POINT = OperatingPoint(
    min_area=0, shrink=0, min_score=0.1, nms_iou=0.5, gate=GATE, upper_gate=UPPER
)


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    data = write_vinbigdata(tmp_path_factory.mktemp("drawn"), count=60)
    return datasets.as_findings(datasets.load(data), CLASSES)


@pytest.fixture(scope="module")
def predictions(truth):
    return drawn_predictions(truth)


def overlap(a, b):
    across = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    down = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    whole = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - across * down
    return across * down / whole


def plain_average_precision(truths, found):
    """VOC 2010's, by loops. `truths`: by image, boxes; `found`: (confidence, image, box)."""
    taken, curve, right = set(), [], 0
    total = sum(map(len, truths.values()))
    for seen, (_, image, box) in enumerate(sorted(found, key=lambda one: -one[0]), start=1):
        overlaps = [overlap(box, other) for other in truths.get(image, [])]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best >= 0 and overlaps[best] > 0.4 and (image, best) not in taken:
            taken.add((image, best))
            right += 1
        curve.append((right / total, right / seen))
    area, before = 0.0, 0.0
    for recall, _ in curve:
        if recall > before:
            area += (recall - before) * max(p for r, p in curve if r >= recall)
            before = recall
    return area


def plain_map(truth, predictions, gate, upper, with_nothing=False):
    """The mean over classes, image by image as a submission would have it."""
    truths, found = {}, {}
    for row, image in enumerate(truth.images):
        kept = predictions.boxes(row, OperatingPoint(min_area=0, shrink=0, min_score=0.1))
        score, nothing = float(predictions.scores[row]), None
        boxes = list(zip(*(values.tolist() for values in kept), strict=True))
        if score < gate or not boxes:
            boxes, nothing = [], 1.0
        if gate <= score < upper:
            nothing = 1 - score
        for box, confidence, label in boxes:
            found.setdefault(label, []).append((confidence, row, box))
        for label, box in zip(image.labels, image.boxes.tolist(), strict=True):
            truths.setdefault(CLASSES.index(label), {}).setdefault(row, []).append(box)
        if with_nothing and nothing is not None:
            found.setdefault(14, []).append((nothing, row, [0, 0, 1, 1]))
        if with_nothing and not image.labels:
            truths.setdefault(14, {})[row] = [[0, 0, 1, 1]]
    return {
        number: plain_average_precision(truths[number], found.get(number, []))
        for number in sorted(truths)
    }


def test_figures_are_those_of_a_plain_computation(truth, predictions):
    scored = score_findings(predictions, POINT, CLASSES)
    figures = {figure.name: figure for figure in scored.figures}
    gated, free = plain_map(truth, predictions, GATE, UPPER), plain_map(truth, predictions, 0, 0)
    assert {CLASSES.index(row.name): row.voc.value for row in scored.classes} == {
        number: pytest.approx(value) for number, value in gated.items()
    }
    assert len(gated) == 4
    assert figures[VOC].value == pytest.approx(np.mean(list(gated.values())))
    without = figures[f"{VOC}, {WITHOUT_GATE}"]
    assert without.value == pytest.approx(np.mean(list(free.values())))
    assert figures[GATE_GAIN].value == pytest.approx(figures[VOC].value - without.value)
    assert abs(figures[GATE_GAIN].value) > 0.005
    for name, gate, upper in ((CHALLENGE, GATE, UPPER), (f"{CHALLENGE}, {WITHOUT_GATE}", 0, 0)):
        expected = plain_map(truth, predictions, gate, upper, with_nothing=True)
        assert len(expected) == 5
        assert figures[name].value == pytest.approx(np.mean(list(expected.values())))
    assert figures[VOC].low < figures[VOC].value < figures[VOC].high
    target = [image.target for image in truth.images]
    assert figures[AGAINST_NORMAL].value == pytest.approx(auc(target, predictions.scores))


def test_cocos_mean_is_cocos(truth, predictions):
    pytest.importorskip("faster_coco_eval")
    found = [predictions.boxes(row, POINT) for row in range(len(truth))]
    numbers = [
        np.array([CLASSES.index(name) for name in image.labels], int) for image in truth.images
    ]
    expected = coco_average_precision(
        BoxTable.of([image.boxes for image in truth.images], classes=numbers),
        BoxTable.of(*map(list, zip(*found, strict=True))),
        len(truth),
    )
    (figure,) = [one for one in score_findings(predictions, POINT).figures if one.name == COCO]
    assert 0.1 < figure.value < 0.9
    assert figure.value == pytest.approx(expected["AP"], abs=1e-6)


def test_image_labels_have_an_auc_each(truth, predictions):
    scored = score_findings(predictions, POINT, CLASSES)
    figures = {figure.name: figure.value for figure in scored.figures}
    label = "Cardiomegaly"
    shares = [dict(image.findings)[f"VinBigData {label}"] for image in truth.images]
    expected = auc(np.array(shares) >= 0.5, predictions.classes[:, CLASSES.index(label)])
    assert figures[f"image AUC, {label}"] == pytest.approx(expected)
    assert expected > 0.6
    assert "image AUC, ILD" not in figures  # no image has it
    assert not [name for name in score_findings(predictions, POINT).figures if "ILD" in name.name]


def test_boxes_and_images_of_each_class_are_counted(truth, predictions):
    rows = score_findings(predictions, POINT).classes
    for row in rows:
        with_it = [image for image in truth.images if row.name in image.labels]
        assert row.images == len(with_it)
        assert row.boxes == sum(image.labels.count(row.name) for image in with_it)
    assert [row.name for row in rows] == [name for name in CLASSES if name in PLACES]


def test_other_classes_have_no_challenge_metric(predictions):
    """Also where the data is of another data set, whose AUC has no known labels."""

    def renamed(image: LabelledRadiograph):
        labels = tuple(f"my {label}" for label in image.labels)
        return type(image)(**{**vars(image), "source": "plain", "labels": labels, "findings": ()})

    images = tuple(renamed(image) for image in predictions.dataset.images)
    names = tuple(f"my {name}" for name in CLASSES)
    dataset = type(predictions.dataset)(images, class_names=names)
    scored = score_findings(
        DatasetPredictions(dataset, None, predictions.scores, predictions.detections), POINT
    )
    assert [figure.name for figure in scored.figures] == [
        VOC,
        f"{VOC}, {WITHOUT_GATE}",
        GATE_GAIN,
        COCO,
    ]
    assert scored.title == "plain"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with entered(tmp_path_factory.mktemp("findings")) as data:
        yield data


def run(command, data, *options):
    return CliRunner().invoke(main.app, [command, "--data", str(data), *map(str, options)])


def test_evaluate_prints_tables_of_findings(home):
    result = run("evaluate", home, "--ensemble", "findings")
    assert result.exit_code == 0, result.output
    said = result.stdout
    assert "# findings, fold 0\n" in said
    assert "## VinBigData, 27 images\n" in said
    for name in (VOC, COCO, CHALLENGE, AGAINST_NORMAL, "image AUC, Cardiomegaly"):
        assert f"| {name} | " in said, name
    assert "| class | boxes | images | AP at IoU > 0.4 | AP at IoU 0.5 to 0.95 |" in said
    assert said.count("\n| Cardiomegaly | ") == 1
    again = run("evaluate", home, "--ensemble", "findings")  # of cached predictions
    assert again.stdout == said


def test_two_ensembles_are_compared(home):
    result = run("evaluate", home, "--ensemble", "findings", "--against", "open")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.startswith(f"| {VOC} |")]
    assert line.count(" to ") == 3
    (line,) = [one for one in result.stdout.splitlines() if one.startswith(f"| {AGAINST_NORMAL}")]
    assert line.endswith("| 0.000 (0.000 to 0.000) |")


def test_a_classifier_alone_has_aucs(home):
    result = run("evaluate", home, "--ensemble", "findings_gate")
    assert result.exit_code == 0, result.output
    assert "| image score, any finding, " in result.stdout
    assert "| Nodule/Mass, " in result.stdout
    assert "mAP" not in result.stdout


def test_a_fold_that_was_seen_is_refused(home):
    result = run("evaluate", home, "--ensemble", "findings", "--fold", 1)
    assert "was trained on fold 1" in str(result.exception)


def test_what_needs_the_rsna_metric_is_refused(home, tmp_path):
    result = run("report", home, "--ensemble", "findings", "--output", tmp_path / "page.html")
    assert "so it has no RSNA metric" in str(result.exception)
    arguments = ["quantize", "findings", "--data", str(home)]
    result = CliRunner().invoke(main.app, arguments)
    assert "so it has no RSNA metric" in str(result.exception)
