"""VinBigData's and NIH's real boxes of several findings: consensus, submissions, evaluation."""

import csv
import gzip
import time
from collections import defaultdict

import numpy as np
import pytest

from lungbox import datasets
from lungbox.boxes import OperatingPoint, geometry
from lungbox.boxes.consensus import confirmed, consensus
from lungbox.constants import VINBIGDATA_CLASSES, VINBIGDATA_NO_FINDING
from lungbox.evaluation.findings import VOC, score_findings
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.evaluation.submissions import score
from lungbox.findings import Findings
from lungbox.submission import vinbigdata

pytestmark = pytest.mark.real
NO_FINDING = VINBIGDATA_CLASSES[VINBIGDATA_NO_FINDING]


def table(path):
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def drawn(shared):
    """Of each image with a finding: boxes, readers and classes, as they are in the table."""
    found = defaultdict(lambda: ([], [], []))
    rows = table(shared / "vinbigdata/train.csv.gz")
    for row in rows:
        if row["class_name"] != NO_FINDING:
            boxes, readers, labels = found[row["image_id"]]
            boxes.append([float(row[edge]) for edge in ("x_min", "y_min", "x_max", "y_max")])
            readers.append(row["rad_id"])
            labels.append(row["class_name"])
    assert len(rows) == 67_914
    return {name: (geometry.as_boxes(b), r, n) for name, (b, r, n) in found.items()}


def test_the_consensus_of_all_rows(drawn):
    """The figures of docs/metrics.md, in much less than a minute."""
    start = time.process_time()
    merged = [consensus(*of_image) for of_image in drawn.values()]
    assert time.process_time() - start < 60
    assert sum(len(one.boxes) for one in merged) == 22_705
    assert sum(int((one.counts >= 2).sum()) for one in merged) == 8_823
    assert sum(not (one.counts >= 2).any() for one in merged) == 4_394 - 4_239
    agreed = sum(int(confirmed(*of_image).sum()) for of_image in drawn.values())
    assert agreed / 36_096 == pytest.approx(0.6207, abs=1e-4)


def test_a_submission_of_fold_0_is_read_back_and_scored(shared, drawn, tmp_path):
    """The consensus itself, as if it had been found: most of what is left to the full score are
    readers' second boxes."""
    folds = {row["image_id"]: row["fold"] for row in table(shared / "vinbigdata/images.csv")}
    meta = table(shared / "vinbigdata/train_meta.csv.gz")
    sizes = {row["image_id"]: (int(row["dim1"]), int(row["dim0"])) for row in meta}
    ids = sorted(name for name, fold in folds.items() if fold == "0")
    findings = []
    for name in ids:
        boxes, labels = consensus(*drawn[name])[:2] if name in drawn else (np.zeros((0, 4)), ())
        boxes = geometry.clip(geometry.as_boxes(boxes), sizes[name])
        certain = np.linspace(0.9, 0.5, len(boxes)).astype(np.float32)
        findings.append(Findings(name, sizes[name], 0.5, boxes, certain, labels))
    submission = tmp_path / "submission.csv"
    lines = [",".join(row) for row in [vinbigdata.HEADER, *vinbigdata.rows(findings)]]
    submission.write_text("\n".join(lines) + "\n")
    again = vinbigdata.read_submission(submission, ids, sizes)
    for found in findings:
        row = again[found.identity]
        if len(found.boxes):
            assert np.abs(row.boxes - found.boxes).max() < 0.011
            assert [VINBIGDATA_CLASSES[number] for number in row.classes] == list(found.labels)
        else:
            assert (row.classes.tolist(), row.boxes.tolist()) == ([14], [[0, 0, 1, 1]])
    labels = tmp_path / "train.csv"
    with gzip.open(shared / "vinbigdata/train.csv.gz", "rt") as file:
        header, *rows = file.read().splitlines()
    labels.write_text("\n".join([header, *(row for row in rows if row[:32] in set(ids))]) + "\n")
    figures = {figure.name: figure.value for figure in score(submission, labels).figures}
    assert figures["AP, No finding"] == 1
    assert 0.5 < figures["VinBigData metric (mAP at IoU > 0.4)"] < 0.9


def test_nihs_boxes_are_a_test_of_eight_findings(shared, tmp_path):
    """As a plain data set of 70 images, those that are RSNA's among them: the boxes themselves
    have a mean average precision of 1, and next to none with other classes."""
    (tmp_path / "images").mkdir()
    lines = ["image_id,x,y,width,height,class"]
    for row in table(shared / "nih/nih_boxes.csv"):
        file = shared / row["file"]
        link = tmp_path / "images" / file.name
        if not link.exists():
            link.symlink_to(file)
        # Files have 256 pixels a side, boxes are in 1024.
        edges = (f"{float(row[key]) / 4:.3f}" for key in ("x", "y", "width", "height"))
        lines.append(",".join([file.stem, *edges, row["label"]]))
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")
    data = datasets.as_findings(datasets.load(tmp_path))
    assert len(data) == 70
    assert sorted(data.class_names) == [
        "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
        "Pneumothorax",
    ]  # fmt: skip
    assert sum(len(image.boxes) for image in data.images) == 77
    point = OperatingPoint(min_area=0, shrink=0)
    for wrong in (False, True):
        (figure,) = [
            f for f in score_findings(perfect(data, wrong), point).figures if f.name == VOC
        ]
        assert figure.value == (pytest.approx(1) if not wrong else pytest.approx(0, abs=0.15))


def perfect(data, wrong):
    """The true boxes as predictions, of the next class where `wrong`."""
    count, most, classes = len(data), 4, len(data.class_names)
    boxes, scores = np.zeros((count, most, 4)), np.zeros((count, most, classes))
    for row, image in enumerate(data.images):
        for slot, (box, label) in enumerate(zip(image.boxes, image.labels, strict=True)):
            boxes[row, slot] = box / np.tile(image.size, 2)
            scores[row, slot, (data.class_names.index(label) + wrong) % classes] = 0.9
    detections = ((np.float32(boxes), np.float32(scores), 1.0),)
    return DatasetPredictions(data, None, np.ones(count, np.float32), detections)
