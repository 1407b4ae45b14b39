"""Fusions are their authors', class by class, with confidences that are never above 1."""

import time

import numpy as np
import pytest
from ensemble_boxes import non_maximum_weighted as authors_nmw
from ensemble_boxes import weighted_boxes_fusion as authors_wbf
from hypothesis import given
from hypothesis import strategies as st

from lungbox.boxes.fusion import Voter, fuse, percentile_boxes, weighted_boxes_fusion
from lungbox.boxes.geometry import as_boxes, iou

FUSIONS = ("weighted", "nms", "soft_nms", "non_maximum_weighted", "intersection", "percentile")


def models_of(seed, count, models, classes=3):
    """Overlapping boxes in 0-1 without equal scores: boxes, scores and labels of each model."""
    random = np.random.default_rng(seed)
    boxes, scores, labels = [], [], []
    for _ in range(models):
        corner = random.uniform(0, 0.5, (count, 2))
        side = random.uniform(0.1, 0.5, (count, 2))
        boxes.append(as_boxes(np.hstack([corner, corner + side])))
        spread = random.permutation(np.linspace(0.05, 0.95, count))
        scores.append(np.float32(spread + random.uniform(0, 0.01)))
        labels.append(random.integers(0, classes, count))
    return boxes, scores, labels


def farthest(found, expected):
    """How far a row of one is at most from the nearest of the other, whatever their order."""
    one, other = (np.column_stack([a[2], a[1], a[0]]) for a in (found, expected))
    assert one.shape == other.shape
    apart = np.abs(one[:, None] - other[None]).max(axis=-1)
    return max(apart.min(axis, initial=9).max(initial=0) for axis in (0, 1)) if len(one) else 0


drawn = given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=1, max_size=4),
    st.sampled_from([0.3, 0.5, 0.7]),
)


@drawn
def test_weighted_boxes_are_the_authors(seed, count, weights, max_iou):
    models = models_of(seed, count, len(weights))
    expected = authors_wbf(
        *([array.astype(float) for array in arrays] for arrays in models),
        weights=weights,
        iou_thr=max_iou,
        skip_box_thr=0.1,
    )
    found = weighted_boxes_fusion(*models, weights, max_iou, skip_threshold=0.1)
    boxes, scores, labels = expected
    assert farthest(found, (boxes, np.minimum(scores, 1), labels)) < 1e-5
    assert (found.scores[:-1] >= found.scores[1:]).all()
    assert found.scores.max(initial=0) <= 1


@drawn
def test_non_maximum_weighted_is_the_authors(seed, count, weights, max_iou):
    models = models_of(seed, count, len(weights))
    expected = authors_nmw(
        *([array.astype(float) for array in arrays] for arrays in models),
        weights=weights,
        iou_thr=max_iou,
    )
    found = weighted_boxes_fusion(*models, weights, max_iou, fusion="non_maximum_weighted")
    assert farthest(found, expected) < 1e-5


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from(FUSIONS), st.integers(0, 2))
def test_a_weight_of_0_leaves_a_model_out(seed, count, fusion, position):
    models = models_of(seed, count, 2)
    other = models_of(seed + 1, count, 1)
    with_other = [[*arrays] for arrays in models]
    for arrays, (array,) in zip(with_other, other, strict=True):
        arrays.insert(position, array)
    weights = [2.0, 1.0]
    expected = weighted_boxes_fusion(*models, weights, fusion=fusion)
    weights.insert(position, 0.0)
    found = weighted_boxes_fusion(*with_other, weights, fusion=fusion)
    for one, two in zip(found, expected, strict=True):
        assert np.array_equal(one, two)
    assert len(weighted_boxes_fusion(*models, [0, 0], fusion=fusion).boxes) == 0


def test_a_confidence_is_at_most_1():
    """The package of the authors gives 1.2."""
    boxes = [[[0, 0, 10, 20], [0, 0, 10, 21]], [[50, 50, 60, 70]]]
    found = weighted_boxes_fusion(boxes, [[0.9, 0.9], [0.3]], [[0, 0], [0]], [3, 1])
    assert found.scores.tolist() == [1.0, pytest.approx(0.3 / 4)]
    assert found.boxes[0].tolist() == [0, 0, 10, pytest.approx(20.5)]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_classes_are_fused_apart_and_other_models_have_none(fusion):
    models = models_of(5, 30, 2)
    found = weighted_boxes_fusion(*models, iou_threshold=0.3, fusion=fusion)
    assert set(found.labels.tolist()) == {0, 1, 2}
    for label in range(3):
        alone = fuse(
            [
                Voter(boxes[labels == label], scores[labels == label])
                for boxes, scores, labels in zip(*models, strict=True)
            ],
            0.3,
            fusion,
        )
        mine = found.labels == label
        assert np.array_equal(found.boxes[mine], alone.boxes)
        assert np.array_equal(found.scores[mine], alone.scores)
        assert not alone.labels.any()
    assert len(fuse([], 0.5, fusion).boxes) == 0


def test_suppression_of_several_networks_weighs_their_scores():
    box = as_boxes([[0, 0, 10, 20]])
    voters = [Voter(box, np.float32([0.9]), 0.5), Voter(box + 1, np.float32([0.8]), 1.0)]
    boxes, scores, _ = fuse(voters, 0.5, "nms")
    assert boxes.tolist() == [[1, 1, 11, 21]]
    assert scores == pytest.approx([0.8])
    boxes, scores, _ = fuse(voters, 0.5, "soft_nms")
    assert boxes.tolist() == [[1, 1, 11, 21], [0, 0, 10, 20]]
    overlap = iou(box, box + 1)[0, 0]
    assert scores == pytest.approx([0.8, 0.45 * (1 - overlap)])


def test_the_intersection_has_what_every_network_has():
    boxes = [[[0, 0, 10, 20], [40, 0, 60, 9]], [[0, 0, 10, 24], [0, 50, 9, 60]]]
    found = weighted_boxes_fusion(
        boxes, [[0.6, 0.9], [0.2, 0.8]], [[4, 4], [4, 4]], fusion="intersection"
    )
    assert found.boxes.tolist() == [[0, 0, 10, 21]]
    assert (found.scores.tolist(), found.labels.tolist()) == ([pytest.approx(0.4)], [4])
    # Two boxes of one network are one network.
    twice = [[[0, 0, 10, 20], [0, 0, 10, 21]], [[40, 0, 60, 9]]]
    assert not len(
        weighted_boxes_fusion(twice, [[1, 1], [1]], [[4, 4], [4]], fusion="intersection").boxes
    )


def test_percentile_boxes_are_smaller_where_networks_disagree():
    widths = (100, 110, 130, 140)
    boxes = [[[300 - width / 2, 300, 300 + width / 2, 500]] for width in widths]
    voters = [Voter(as_boxes(box), np.float32([0.5])) for box in boxes]
    (box,), scores, _ = percentile_boxes(voters, 0.5)
    small, large = np.percentile(np.log(widths), (20, 80))
    assert (box[0] + box[2]) / 2 == pytest.approx(300)
    assert (box[1], box[3]) == (pytest.approx(300), pytest.approx(500))
    assert box[2] - box[0] == pytest.approx(np.exp(small - 0.9 * (large - small)), rel=1e-5)
    (wide,), _, _ = percentile_boxes(voters, 0.5, spread=0)
    assert wide[2] - wide[0] == pytest.approx(np.exp(small), rel=1e-5)
    assert scores == pytest.approx([0.5])
    (alone,), _, _ = percentile_boxes(voters[:1], 0.5)
    assert alone == pytest.approx(np.array(boxes[0][0]))


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="as many scores and labels as boxes"):
        weighted_boxes_fusion([[[0, 0, 1, 1]]], [[0.5, 0.6]], [[1]])
    with pytest.raises(ValueError, match="zip"):
        weighted_boxes_fusion([[[0, 0, 1, 1]]], [[0.5]], [[1]], [1, 2])


def test_it_is_faster_than_the_authors():
    """The best of several runs each, of 100 boxes of 14 classes by each of four models."""
    cases = [models_of(seed, 100, 4, classes=14) for seed in range(4)]
    as_float = [[[array.astype(float) for array in part] for part in case] for case in cases]

    def seconds(run, inputs):
        start = time.process_time()
        for case in inputs:
            run(*case)
        return time.process_time() - start

    ours = min(seconds(weighted_boxes_fusion, cases) for _ in range(5))
    theirs = min(seconds(lambda *case: authors_wbf(*case, iou_thr=0.5), as_float) for _ in range(5))
    assert ours < theirs
