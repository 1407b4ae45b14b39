"""The RSNA metric against a transcription of its definition, and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungbox.boxes import geometry
from lungbox.metrics import rsna_image_score, rsna_image_scores, rsna_score


def plain_iou(a, b):
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    overlap = max(0, across) * max(0, down)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / union


def plain_score(truth, predicted, scores):
    """The definition, one step after the other."""
    if not truth and not predicted:
        return math.nan
    precisions = []
    for threshold in (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75):
        free = list(truth)
        match_predictions = 0
        for _, box in sorted(zip(scores, predicted, strict=True), key=lambda pair: -pair[0]):
            if not free:
                break
            best = max(free, key=lambda other: plain_iou(box, other))
            if plain_iou(box, best) >= threshold:
                free.remove(best)
                match_predictions += 1
        precisions.append(match_predictions / (len(truth) + len(predicted) - match_predictions))
    return sum(precisions) / len(precisions)


# Few positions, so that boxes often meet, coincide and tie.
CORNER = st.sampled_from([0, 10, 12, 15])
BOX = st.tuples(CORNER, CORNER, st.sampled_from([20, 24, 30]), st.sampled_from([20, 24, 30]))


@settings(max_examples=10 * settings().max_examples)
@given(st.lists(BOX, max_size=4, unique=True), st.lists(BOX, max_size=4), st.data())
def test_equals_the_definition(truth, predicted, data):
    # Distinct confidences: between equal ones the definition leaves the order open.
    scores = data.draw(st.permutations([0.9, 0.7, 0.5, 0.3][: len(predicted)]))
    found = rsna_image_score(
        geometry.as_boxes(truth), geometry.as_boxes(predicted), np.array(scores)
    )
    assert found == pytest.approx(plain_score(truth, predicted, scores), nan_ok=True)


CASE = st.tuples(
    st.lists(BOX, max_size=4, unique=True),
    st.lists(st.tuples(BOX, st.sampled_from([0.9, 0.5])), max_size=4),
)


@settings(max_examples=10 * settings().max_examples)
@given(st.lists(CASE, min_size=1, max_size=5))
def test_a_set_equals_the_definition_image_by_image(cases):
    """Equal confidences too, which keep the order they are given in."""
    truth = [boxes for boxes, _ in cases]
    predicted = [[box for box, _ in found] for _, found in cases]
    scores = [[score for _, score in found] for _, found in cases]
    expected = [plain_score(*case) for case in zip(truth, predicted, scores, strict=True)]
    found = rsna_image_scores(
        [geometry.as_boxes(boxes) for boxes in truth],
        [geometry.as_boxes(boxes) for boxes in predicted],
        [np.array(of_image) for of_image in scores],
    )
    assert found == pytest.approx(expected, nan_ok=True)


def test_images_of_a_set_do_not_meet():
    """A box that only another image has is a false positive here."""
    box, none = geometry.as_boxes([(0, 0, 10, 10)]), geometry.as_boxes([])
    found = rsna_image_scores(
        [box, none, box, none], [none, box, box, none], [np.ones(n) for n in (0, 1, 1, 0)]
    )
    assert found == pytest.approx([0, 0, 1, math.nan], nan_ok=True)


def test_no_images():
    assert len(rsna_image_scores([], [], [])) == 0


def test_no_truth():
    none, one = geometry.as_boxes([]), geometry.as_boxes([(0, 0, 9, 9)])
    assert math.isnan(rsna_image_score(none, none, np.zeros(0)))
    assert rsna_image_score(none, one, np.ones(1)) == 0
    assert rsna_image_score(one, none, np.zeros(0)) == 0


def test_a_hit_at_exactly_the_threshold_counts():
    truth, predicted = geometry.as_boxes([(0, 0, 10, 10)]), geometry.as_boxes([(0, 0, 10, 5)])
    # IoU 0.5: a hit at 0.4, 0.45 and 0.5, three of eight.
    assert rsna_image_score(truth, predicted, np.ones(1)) == 3 / 8


def test_one_box_over_two_truths_takes_one():
    truth = geometry.as_boxes([(0, 0, 10, 10), (0, 0, 10, 9)])
    predicted = geometry.as_boxes([(0, 0, 10, 10)])
    assert rsna_image_score(truth, predicted, np.ones(1)) == 0.5


def test_set_score_leaves_out_what_does_not_count():
    parts = np.array([0.5, math.nan, 0.0])
    assert rsna_score(parts) == 0.25
    assert rsna_score(parts, np.array([3, 1, 1])) == 0.375
    assert rsna_score(parts, np.array([0, 1, 1])) == 0
    assert math.isnan(rsna_score(parts[1:2]))
