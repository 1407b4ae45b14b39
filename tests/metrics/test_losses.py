"""Losses and mask metrics, worked out by hand; and they survive being saved."""

import keras
import numpy as np
import pytest

from lungbox.metrics.losses import F1, IoUBinaryCrossentropy, MeanIoU, PixelAccuracy, soft_iou


def masks(*opacities):
    """`(B, h, w, 2)` from opacity maps `(h, w)`."""
    opacity = np.asarray(opacities, np.float32)
    return np.stack([1 - opacity, opacity], axis=-1)


TRUTH = masks([[1, 1], [0, 0]], [[0, 0], [0, 0]])
GUESS = masks([[1, 0.5], [0.5, 0]], [[0, 0], [0, 0.5]])


def value(tensor):
    return float(keras.ops.convert_to_numpy(tensor))


def test_soft_iou_over_the_batch_and_both_channels():
    # Opacity: I = 1.5, sums 2 and 2.5. Background: I = 1.5 + 3.5, sums 6 and 5.5.
    expected = (1.5 + 5 + 1) / (2 + 2.5 + 6 + 5.5 - 6.5 + 1)
    assert value(soft_iou(TRUTH, GUESS)) == pytest.approx(expected)


def test_soft_iou_of_the_foreground():
    found = value(soft_iou(TRUTH, GUESS, channels="foreground"))
    assert found == pytest.approx((1.5 + 1) / (2 + 2.5 - 1.5 + 1))


def test_soft_iou_of_each_image():
    found = value(soft_iou(TRUTH, GUESS, over="image", channels="foreground"))
    # The second image has no opacity: (0 + 1) / (0 + 0.5 + 1).
    assert found == pytest.approx(((1.5 + 1) / (2 + 2 - 1.5 + 1) + 1 / 1.5) / 2)


def test_empty_masks_agree():
    empty = masks([[0, 0]])
    assert value(soft_iou(empty, empty, channels="foreground")) == 1


def test_loss_is_half_and_half():
    crossentropy = np.mean(-np.log([1, 0.5, 0.5, 1, 1, 1, 1, 0.5]))
    overlap = value(soft_iou(TRUTH, GUESS))
    loss = IoUBinaryCrossentropy()(TRUTH, GUESS)
    assert value(loss) == pytest.approx(0.5 * crossentropy + 0.5 * (1 - overlap), abs=1e-5)


def test_weights_choose_the_terms():
    assert value(IoUBinaryCrossentropy(bce=0, iou=2)(TRUTH, GUESS)) == pytest.approx(
        2 * (1 - value(soft_iou(TRUTH, GUESS)))
    )
    assert value(IoUBinaryCrossentropy(bce=1, iou=0)(TRUTH, TRUTH)) == pytest.approx(0, abs=1e-5)


def test_loss_is_serialisable():
    loss = IoUBinaryCrossentropy(0.3, 0.7, smooth=2, over="image", channels="foreground")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert value(again(TRUTH, GUESS)) == pytest.approx(value(loss(TRUTH, GUESS)))
    assert again.get_config() == loss.get_config()


# Classes: truth 2 opacity and 6 background; predicted opacity at one right and one wrong pixel.
HARD = masks([[0.9, 0.4], [0.6, 0]], [[0, 0], [0, 0.5]])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [(PixelAccuracy, 6 / 8), (MeanIoU, (1 / 3 + 5 / 7) / 2), (F1, 2 / (2 + 2))],
)
def test_metrics_by_hand(metric, expected):
    whole = metric()
    whole.update_state(TRUTH, HARD)
    assert value(whole.result()) == pytest.approx(expected)
    parts = metric()
    for image in range(2):
        parts.update_state(TRUTH[image : image + 1], HARD[image : image + 1])
    assert value(parts.result()) == pytest.approx(expected)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(whole))
    assert again.name == whole.name


def test_metrics_before_and_after_a_reset():
    metric = F1()
    assert value(metric.result()) == 0
    metric.update_state(TRUTH, TRUTH)
    assert value(metric.result()) == 1
    metric.reset_state()
    assert value(metric.result()) == 0


def test_sample_weights_leave_images_out():
    metric = PixelAccuracy()
    metric.update_state(TRUTH, HARD, sample_weight=np.array([0.0, 1.0]))
    assert value(metric.result()) == 1
