"""Findings cannot be wrong, and survive JSON."""

import json

import numpy as np
import pytest

from lungbox.boxes import geometry
from lungbox.findings import Findings, WithheldBox


def findings(**changes):
    facts = {
        "identity": "1.2.840",
        "size": (200, 100),
        "image_score": 0.75,
        "boxes": geometry.as_boxes([(1.5, 2, 30, 40.25), (0, 0, 200, 100)]),
        "scores": np.array([0.9, 0.5], np.float32),
        "labels": ("lung opacity",) * 2,
        "path": "a/b.dcm",
        "flag": "view LL",
    }
    return Findings(**(facts | changes))


def test_json_round_trip():
    before = findings()
    after = Findings.from_record(json.loads(json.dumps(before.to_record())))
    assert after.to_record() == before.to_record()
    assert np.array_equal(after.boxes, before.boxes)


def test_other_class_names_are_written_and_read():
    assert "class_names" not in findings().to_record()
    names = ("lung opacity", "mass")
    before = findings(class_names=names, class_scores=(("normal", 0.25),))
    assert Findings.from_record(json.loads(json.dumps(before.to_record()))) == before


def test_no_finding_beside_boxes_survives_json():
    assert "no_finding" not in findings().to_record()
    before = findings(no_finding=0.25)
    record = json.loads(json.dumps(before.to_record()))
    assert record["no_finding"] == 0.25
    assert Findings.from_record(record) == before


WITHHELD = WithheldBox("lung opacity", 0.75, (3.0, 4.5, 60.0, 90.25))


def test_withheld_boxes_are_no_findings_and_survive_json():
    before = findings(
        boxes=geometry.as_boxes([]),
        scores=np.zeros(0, np.float32),
        labels=(),
        withheld=(WITHHELD,),
        gate=0.8,
    )
    record = json.loads(json.dumps(before.to_record()))
    assert record["findings"] == []
    assert record["gate"] == 0.8
    assert record["withheld"] == [
        {"label": "lung opacity", "score": 0.75, "box": [3, 4.5, 60, 90.25], "withheld_by": "gate"}
    ]
    assert Findings.from_record(record) == before
    assert {"gate", "withheld"}.isdisjoint(findings().to_record())


@pytest.mark.parametrize(
    "changes",
    [
        {"withheld": (WithheldBox("lung opacity", 0.5, (3, 4, 201, 90)),)},
        {"scores": np.array([0.5], np.float32)},
        {"no_finding": 1.5},
        {"labels": ("lung opacity",)},
        {"size": (199, 100)},
        {"boxes": geometry.as_boxes([(5, 5, 5, 6), (0, 0, 1, 1)])},
        {"boxes": geometry.as_boxes([(-1, 5, 5, 6), (0, 0, 1, 1)])},
    ],
)
def test_impossible_findings_are_refused(changes):
    with pytest.raises(ValueError):
        findings(**changes)


def test_a_record_of_something_else_is_refused():
    with pytest.raises(ValueError, match=r"predictions\.jsonl"):
        Findings.from_record({"id": "x"})
