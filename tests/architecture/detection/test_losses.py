"""Matching and losses are those of plain loops, on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

from lungbox.architecture.detection.boxes import decode, encode
from lungbox.architecture.detection.losses import AnchorLoss, RoiLoss
from lungbox.architecture.detection.matching import match
from lungbox.boxes.geometry import iou
from tests.architecture.detection.drawn import (
    LOSSES,
    losses_of,
    random_boxes,
    random_outputs,
    random_targets,
)
from tests.architecture.detection.test_boxes import plain_giou


@pytest.fixture(scope="module")
def drawn():
    random = np.random.default_rng(5)
    return random_targets(random), random_outputs(random)


def plain_match(anchors, truth, positive, negative):
    """Of each anchor the row of its true box, -1 for background, -2 where it is ignored."""
    boxes = truth[truth[:, 4] >= 0]
    if not len(boxes):
        return np.full(len(anchors), -1)
    overlaps = iou(anchors, boxes[:, :4])
    rows = np.full(len(anchors), -2)
    for number, row in enumerate(overlaps):
        if row.max() >= positive:
            rows[number] = row.argmax()
        elif row.max() < negative:
            rows[number] = -1
    for box in reversed(range(len(boxes))):
        rows[overlaps[:, box].argmax()] = box
    return rows


@pytest.mark.parametrize(("positive", "negative"), [(0.5, 0.4), (0.5, 0.5), (0.3, 0.1)])
def test_matching_is_that_of_a_plain_loop(drawn, positive, negative):
    truth, outputs = drawn
    anchors = outputs[..., :4]
    found = [ops.convert_to_numpy(x) for x in match(anchors, truth, positive, negative)]
    kinds = set()
    for image in range(len(truth)):
        rows = plain_match(anchors[image], truth[image], positive, negative)
        assert np.array_equal(found[0][image], rows >= 0)
        assert np.array_equal(found[1][image], rows == -1)
        matched = rows >= 0
        assert np.array_equal(found[2][image][matched], truth[image][rows[matched], :4])
        assert np.array_equal(found[2][image][~matched], anchors[image][~matched])
        assert np.array_equal(found[3][image][matched], truth[image][rows[matched], 4])
        assert (found[3][image][~matched] == -1).all()
        kinds |= set(rows.tolist())
    assert {-1, 0, 1} < kinds
    assert (-2 in kinds) == (positive > negative)


def test_the_best_anchor_of_every_box_is_positive():
    """At an IoU of 0.1; one that is best for two boxes is the first's, and one without overlap is
    nobody's."""
    anchors = np.float32([[[0, 0, 0.1, 1], [0.5, 0, 1, 0.1], [0.5, 0.9, 1, 1]]])
    truth = np.float32([[[0, 0, 1, 1, 2], [0, 0, 1, 0.9, 1], [-1] * 5]])
    positive, _, boxes, labels = match(anchors, truth)
    assert ops.convert_to_numpy(positive).tolist() == [[1, 0, 0]]
    assert ops.convert_to_numpy(labels).tolist() == [[2, -1, -1]]
    assert ops.convert_to_numpy(boxes)[0, 0].tolist() == [0, 0, 1, 1]
    nowhere = np.float32([[[0.2, 0.3, 0.4, 0.5, 0]]])
    assert ops.convert_to_numpy(match(anchors, nowhere).positive).sum() == 0


def plain_box_loss(anchor, delta, box, kind):
    if kind == "giou":
        decoded = ops.convert_to_numpy(decode(anchor, delta)).astype(float)
        return 1 - plain_giou(decoded.tolist(), box.tolist())
    errors = np.abs(delta - ops.convert_to_numpy(encode(anchor, box))).astype(float)
    return sum(0.5 * e * e if e < 1 else e - 0.5 for e in errors)


def plain_anchor_loss(loss, truth, outputs):
    """Of one image."""
    anchors, logits, deltas = outputs[:, :4], outputs[:, 4:-4].astype(float), outputs[:, -4:]
    rows = plain_match(anchors, truth, 0.5, 0.4)
    classes = boxes = 0.0
    for number, row in enumerate(rows):
        if row == -2:
            continue
        label = -1 if row < 0 else 0 if loss.any_class else int(truth[row, 4])
        for index, logit in enumerate(logits[number]):
            p = 1 / (1 + np.exp(-logit))
            if index == label:
                classes -= loss.alpha * (1 - p) ** loss.gamma * np.log(p)
            else:
                classes -= (1 - loss.alpha) * p**loss.gamma * np.log(1 - p)
        if row >= 0:
            boxes += plain_box_loss(anchors[number], deltas[number], truth[row, :4], loss.box)
    return (classes + loss.box_weight * boxes) / max(1, (rows >= 0).sum())


def plain_roi_loss(loss, truth, outputs):
    proposals, logits, deltas = outputs[:, :4], outputs[:, 4:-4].astype(float), outputs[:, -4:]
    rows = plain_match(proposals, truth, 0.5, 0.5)
    each = np.log(np.exp(logits).sum(axis=1))
    background = each - logits[:, 0]
    found = [n for n, row in enumerate(rows) if row >= 0]
    most = max(loss.least, loss.negatives * len(found))
    hardest = sorted((background[n] for n, row in enumerate(rows) if row == -1), reverse=True)
    terms = [each[n] - logits[n, 1 + int(truth[rows[n], 4])] for n in found] + hardest[:most]
    boxes = [plain_box_loss(proposals[n], deltas[n], truth[rows[n], :4], loss.box) for n in found]
    return sum(terms) / max(1, len(terms)) + loss.box_weight * sum(boxes) / max(1, len(boxes))


def test_losses_are_those_of_plain_loops(drawn):
    truth, outputs = drawn
    found = losses_of(truth, outputs)
    two = truth.copy()
    two[..., 4] = np.minimum(two[..., 4], 1)
    for name, loss in LOSSES.items():
        roi = isinstance(loss, RoiLoss)
        plain = plain_roi_loss if roi else plain_anchor_loss
        images = np.delete(outputs, [5, 6], axis=-1) if name == "any class" else outputs
        targets = two if roi else truth
        expected = [plain(loss, t, o) for t, o in zip(targets, images, strict=True)]
        assert found[name] == pytest.approx(np.array(expected), rel=1e-4), name
        assert type(loss).from_config(loss.get_config()).get_config() == loss.get_config()


def test_every_backend_has_the_same_losses(drawn, other_backend):
    ours, theirs = losses_of(*drawn), other_backend.call(losses_of, *drawn)
    for name, values in ours.items():
        assert np.abs(values - theirs[name]).max() < 1e-5 * max(1, np.abs(values).max()), name


def test_padding_and_images_of_weight_0_do_not_count(drawn):
    truth, outputs = drawn
    more = np.concatenate([truth, np.full((4, 3, 5), -1, np.float32)], axis=1)
    for name, loss in (("anchor", AnchorLoss()), ("roi", RoiLoss())):
        targets = np.where(truth == 2, 1, truth) if name == "roi" else truth
        padded = np.where(more == 2, 1, more) if name == "roi" else more
        each = ops.convert_to_numpy(loss.call(targets, outputs))
        assert float(loss(padded, outputs)) == pytest.approx(each.mean(), rel=1e-5)
        weighted = float(loss(targets, outputs, sample_weight=np.float32([1, 0, 1, 0])))
        assert weighted == pytest.approx(each[[0, 2]].mean(), rel=1e-5)


def test_the_hardest_background_counts():
    """One positive proposal; of ten others the eight with the highest probability of a finding."""
    random = np.random.default_rng(7)
    boxes = random_boxes(random, (1, 11))
    boxes[0, :, 2] = boxes[0, :, 2] / 4 + 0.75  # all others on the right
    boxes[0, :, 0] = 0.75
    boxes[0, 0] = [0, 0, 0.5, 0.5]
    logits = np.zeros((1, 11, 2), np.float32)
    logits[0, 1:, 1] = np.arange(10)
    outputs = np.concatenate([boxes, logits, np.zeros((1, 11, 4), np.float32)], axis=-1)
    truth = np.float32([[[0, 0, 0.5, 0.5, 0]]])
    expected = np.log(2) + sum(np.log1p(np.exp(x)) for x in range(2, 10))
    assert float(RoiLoss()(truth, outputs)) == pytest.approx(expected / 9, rel=1e-5)


def test_perfect_boxes_have_no_loss():
    truth = np.float32([[[0.1, 0.2, 0.5, 0.9, 1], [0.5, 0.5, 0.9, 0.8, 0], [-1] * 5]])
    anchors = truth[:, :2, :4] + np.float32([0.01, -0.02, 0.02, 0.01])
    deltas = ops.convert_to_numpy(encode(anchors, truth[:, :2, :4]))
    logits = np.float32([[[-30, 30], [30, -30]]])
    outputs = np.concatenate([anchors, logits, deltas], axis=-1)
    for box in ("giou", "smooth_l1"):
        assert float(AnchorLoss(box=box)(truth, outputs)) == pytest.approx(0, abs=1e-5)


def test_losses_survive_serialisation():
    loss = AnchorLoss(0.3, 1.5, "smooth_l1", 0.5, any_class=True)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
