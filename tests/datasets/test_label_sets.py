"""What is known of an image's labels, of every data set."""

import numpy as np
import pytest

from lungbox.constants import RSNA_CLASSES
from lungbox.constants import UNKNOWN as NO
from lungbox.datasets import INFOS
from lungbox.datasets.findings import abnormality, nih_findings, share_of_readers
from lungbox.datasets.label_sets import LABEL_SETS, label_set_of
from tests.training.keys import labelled

NORMAL, NOT_NORMAL, OPACITY = RSNA_CLASSES


def rsna(category, boxes=()):
    info = INFOS["rsna"]
    found = abnormality(category, info.normal, info.abnormal, bool(boxes))
    return labelled(0, boxes=boxes, category=category, findings=found)


def siim(positive=False, **facts):
    boxes = [(30, 40, 120, 240)] if positive else []
    found = abnormality("any", "", "", positive)
    return labelled(1, boxes=boxes, source="siim", category="any", findings=found, **facts)


def vinbigdata(classes, readers, boxes=(), uncertain=False):
    found = abnormality("", "", "", "No finding" not in classes)
    shares = share_of_readers(classes, readers)
    return labelled(
        2, boxes=boxes, source="vinbigdata", findings=(*found, *shares), uncertain=uncertain
    )


@pytest.mark.parametrize(
    ("image", "abnormal", "three"),
    [
        (rsna(NORMAL), 0, (1, 0, 0)),
        (rsna(NOT_NORMAL), 1, (0, 1, 0)),
        (rsna(OPACITY, [(30, 40, 120, 240)]), 1, (0, 0, 1)),
        # Without opacity, and nothing else is known.
        (siim(), NO, (1, 1, 0)),
        (siim(positive=True), 1, (0, 0, 1)),
        (siim(uncertain=True), NO, (NO, NO, NO)),
        # One reader of three drew an opacity: abnormal, with or without.
        (vinbigdata(["ILD", "Lung Opacity"], ["R1", "R2"], uncertain=True), 1, (0, 1, 1)),
        (vinbigdata(["ILD"], ["R1"]), 1, (0, 1, 0)),
    ],
)
def test_abnormal_and_the_three_classes(image, abnormal, three):
    assert LABEL_SETS["abnormal"].target(image) == (abnormal,)
    assert LABEL_SETS["three"].target(image) == three
    assert LABEL_SETS["three"].is_known(image) == (three[0] != NO)


def test_findings():
    """NIH's of a report, those of its readers without pneumonia, and VinBigData's shares."""
    nih, vin = LABEL_SETS["nih"], LABEL_SETS["vinbigdata"]
    reports = labelled(0, findings=nih_findings("Effusion|Mass"))
    readers = labelled(1, findings=nih_findings("Hernia", of_readers=True))
    ours = dict(zip(nih.class_names, nih.target(reports), strict=True))
    assert {name for name, value in ours.items() if value} == {"Effusion", "Mass"}
    theirs = dict(zip(nih.class_names, nih.target(readers), strict=True))
    assert (theirs["Hernia"], theirs["Pneumonia"], theirs["Mass"]) == (1, NO, 0)
    image = vinbigdata(["ILD", "ILD", "Nodule/Mass", "ILD"], ["R1", "R1", "R1", "R2"])
    shares = dict(zip(vin.class_names, vin.target(image), strict=True))
    assert (shares["ILD"], shares["Nodule/Mass"], shares["Calcification"]) == (1, 0.5, 0)
    assert len(vin.class_names) == len(nih.class_names) == 14
    assert not nih.is_known(image)
    assert not vin.is_known(reports)


def test_truth():
    """Findings that most readers marked; of exclusive classes what the possible ones tell."""
    two = labelled(0, findings=(("VinBigData ILD", 2 / 3), ("VinBigData Atelectasis", 1 / 3)))
    positive, known = LABEL_SETS["vinbigdata"].truth([two, labelled(1)])
    names = LABEL_SETS["vinbigdata"].class_names
    assert positive.nonzero()[1].tolist() == [names.index("ILD")]
    assert known.sum(axis=1).tolist() == [2, 0]
    unsure = vinbigdata(["Lung Opacity"], ["R1"], uncertain=True)
    positive, known = LABEL_SETS["three"].truth([rsna(NOT_NORMAL), siim(), unsure])
    assert positive.tolist() == [[False, True, False], [False] * 3, [False] * 3]
    assert known.tolist() == [[True] * 3, [False, False, True], [True, False, False]]
    positive, known = LABEL_SETS["nih"].truth([])
    assert positive.shape == known.shape == (0, 14)
    assert positive.dtype == np.bool_


def test_a_networks_class_names_tell_its_label_set():
    for labels in LABEL_SETS.values():
        assert label_set_of(list(labels.class_names)) is labels
    assert label_set_of(["lung opacity"]) is None
