"""Heads: targets, losses and metrics by the names of a network's outputs."""

from typing import ClassVar

import keras
import numpy as np
import pytest

from lungbox.boxes.geometry import as_boxes
from lungbox.training import loggers
from lungbox.training.heads import HEADS, Head, Sample, heads_for
from lungbox.training.loggers import EpochMetrics, read_log
from lungbox.training.model import EvaluationModel, build_trainable, named_as_logged
from lungbox.training.progress import epoch_line
from lungbox.training.recipe import RecipeError
from tests.small import registered, two_convolutions
from tests.training.keys import batches_of, cache_of, labelled, recipe_of, trainee_of
from tests.training.runs import train, written

pytestmark = pytest.mark.usefixtures("small_networks")


class Count(Head):
    """`count` `(B, 2)`: numbers of boxes in the left and the right half."""

    name = "count"
    metrics: ClassVar = {"count_error": keras.metrics.MeanAbsoluteError}

    def target(self, sample, shape):
        centres = (sample.boxes[:, 0] + sample.boxes[:, 2]) / 2
        right = int(np.sum(centres > sample.mask.shape[1] / 2))
        return np.array([len(centres) - right, right], np.float32).reshape(shape)

    def loss(self, settings):
        return keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")


def with_a_count(image_size: int = 64) -> keras.Model:
    model = two_convolutions(image_size)
    features = keras.layers.GlobalAveragePooling2D()(model.get_layer("mask_logits").input)
    count = keras.layers.Dense(2, name="count")(features)
    return keras.Model(model.input, {**model.output, "count": count})


def test_another_output_needs_nothing_but_its_head(tmp_path, monkeypatch):
    """Drawn, trained, scored and logged beside the others, by a network of three outputs."""
    monkeypatch.setitem(HEADS, "count", Count())
    added = ("count_loss", "count_error", "val_count_error")
    monkeypatch.setattr(loggers, "COLUMNS", (*loggers.COLUMNS, *added))
    with registered(with_a_count):
        boxes = [(30, 40, 120, 240), (20, 300, 100, 390), (200, 40, 290, 200)]
        cache = cache_of(labelled(0, boxes=boxes), labelled(1, boxes=[]))
        outputs = build_trainable(recipe_of(architecture="with_a_count"), 32, 10).outputs
        assert outputs == {"mask": (8, 8, 2), "image": (1,), "count": (2,)}
        batches = batches_of(cache, heads=("mask", "image", "count"), data={"order": "fixed"})
        counts = {tuple(row) for row in batches[0][1]["count"].tolist()}
        assert counts == {(2, 1), (0, 0)}
        folder = written(tmp_path, 15)
        changes = ("architecture=with_a_count", "validation={ fold = 0, every = 1 }")
        (epoch,) = read_log(train(folder, "run", *changes).parent)
    assert epoch.loss == pytest.approx(epoch.mask_loss + epoch.image_loss + epoch.count_loss)
    assert epoch.count_error > 0
    assert epoch.val_count_error > 0
    assert epoch.rsna_metric >= 0


def test_an_output_without_a_head_is_named():
    with pytest.raises(RecipeError, match="no training head for the output 'boxes'"):
        heads_for(["mask", "boxes"])


def test_targets_are_in_the_shape_of_their_outputs():
    """Left, lower half of 6 x 8 pixels, at half the size."""
    mask = np.zeros((6, 8), np.uint8)
    mask[3:, :4] = 255
    sample = Sample(mask, 0.25, as_boxes([(0, 3, 4, 6)]))
    target = HEADS["mask"].target(sample, (3, 4, 2))
    assert target.shape == (3, 4, 2)
    assert target[:, :, 1].tolist() == [
        [0, 0, 0, 0],
        [0.501960813999176] * 2 + [0, 0],
        [1, 1, 0, 0],
    ]
    assert np.allclose(target.sum(axis=-1), 1)
    assert HEADS["image"].target(sample, (1,)).tolist() == [0.25]


def test_one_pass_gives_the_metrics_and_the_outputs(monkeypatch):
    """Equal to a separate evaluation and prediction, also on a last batch that is padded."""
    network = trainee_of()
    images = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 1)).astype(np.float32)
    opacity = np.zeros((4, 8, 8, 1), np.float32)
    opacity[1:, 2:5, 1:4] = 1
    targets = {
        "mask": np.concatenate([1 - opacity, opacity], axis=-1),
        "image": np.array([[0], [1], [1], [1]], np.float32),
    }
    weights = dict.fromkeys(targets, np.array([1, 1, 1, 0], np.float32))
    expected = network.training_model.evaluate(images, targets, 4, 0, weights, return_dict=True)
    model = EvaluationModel.of(network, recipe_of().loss)
    seen = {}
    keep = keras.callbacks.LambdaCallback(on_test_batch_end=lambda _, logs: seen.update(logs))
    model.evaluate(images, targets, 4, 0, weights, callbacks=[keep])
    found = {name: float(value) for name, value in model.get_metrics_result().items()}
    assert found == pytest.approx(expected, abs=1e-6)
    outputs = network.inference_model.predict_on_batch(images)
    for name, output in outputs.items():
        np.testing.assert_allclose(seen[f"output_{name}"], output, atol=1e-6)
    assert set(named_as_logged(found, ["mask", "image"])) == {
        "loss", "mask_loss", "image_loss", "accuracy", "mean_iou", "reference_mean_iou", "f1",
    }  # fmt: skip


def test_the_line_of_an_epoch_keeps_training_and_held_out_losses_apart():
    epoch = EpochMetrics.of(2, {
        "loss": 1.5, "mask_loss": 1.0, "image_loss": 0.5, "edges_loss": float("nan"),
        "val_loss": 1.75, "rsna_metric": 0.25, "auc": 0.875,
        "images_per_second": 12.0, "seconds": 3.0,
    })  # fmt: skip
    assert epoch_line(epoch) == (
        "epoch 2: loss 1.5000 (mask 1.0000, image 0.5000), held out: loss 1.7500, "
        "RSNA metric 0.250, AUC 0.875, 3 s, 12.0 images/s"
    )
