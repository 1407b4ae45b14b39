"""The moving average of the weights, in a whole run: it is what is kept and what is scored."""

import keras
import numpy as np
import pytest

from lungbox.architecture.ensemble import average
from lungbox.evaluation.predictions import to_uint8
from lungbox.radiograph import resize_area
from lungbox.training.validation import Score, ValidationScorer, _predictions
from lungbox.weights.formats.safetensors import load_weights
from tests.training.keys import cache_of, labelled, scoring_of, trainee_of
from tests.training.runs import train, written

pytestmark = pytest.mark.usefixtures("small_networks")

CHANGES = (
    "stages=[{ epochs = 3, image_size = 32 }]",
    "optimizer={ learning_rate = 0.05, warmup = 0, ema = 0.25 }",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("average"), count=15)


def values(variables):
    return [np.array(variable) for variable in variables]


class Watched(keras.callbacks.Callback):
    """Keeps the weights before each epoch, after each step, and those that are scored."""

    def __init__(self, monkeypatch, scores):
        super().__init__()
        self.steps, self.scored, self.begun = [], [], []

        def score(validation):
            # The weights of the scored network at this moment, through its own layers.
            self.scored.append(values(validation._model.trainable_variables))
            return Score(scores[len(self.scored) - 1], 0.5)

        monkeypatch.setattr(ValidationScorer, "score", score)

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(values(self.model.trainable_variables))

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(values(self.model.trainable_variables))

    def averages(self):
        """After each step; its momentum rises from 0, at the first, to 0.25, at the fourth."""
        mean = self.steps[0]
        for step, now in enumerate(self.steps):
            momentum = min(0.25, step / (step + 9))
            mean = [momentum * m + (1 - momentum) * v for m, v in zip(mean, now, strict=True)]
            yield mean


def equal(ours, theirs):
    return all(np.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("patience", "best"), [(0, 3), (3, 2)])
def test_the_average_is_scored_and_kept_and_training_goes_on_without(
    folder, monkeypatch, patience, best
):
    """With patience, the average after the second epoch is kept, which scored highest."""
    watched = Watched(monkeypatch, scores=[0.1, 0.5, 0.2])
    scoring = f"validation={{ fold = 0, every = 1, patience = {patience} }}"
    path = train(folder, f"run-{patience}", *CHANGES, scoring, callbacks=[watched])
    assert len(watched.steps) == 9
    means = list(watched.averages())
    for epoch in range(3):
        assert equal(watched.scored[epoch], means[3 * epoch + 2])
        assert not equal(watched.scored[epoch], watched.steps[3 * epoch + 2])
    for epoch in (1, 2):
        assert equal(watched.begun[epoch], watched.steps[3 * epoch - 1])
    kept = trainee_of().inference_model
    load_weights(kept, path)
    assert equal(values(kept.trainable_variables), means[3 * best - 1])
    assert not equal(values(kept.trainable_variables), watched.steps[3 * best - 1])


def test_the_next_stage_begins_with_the_weights_and_not_their_average(folder, monkeypatch):
    """At the end of each stage `fit` takes the average, after the state was saved."""
    watched = Watched(monkeypatch, scores=[])
    stages = "stages=[{ epochs = 1, image_size = 32 }, { epochs = 1, image_size = 64 }]"
    path = train(folder, "stages", stages, CHANGES[1], callbacks=[watched])
    assert [len(watched.steps), len(watched.begun)] == [6, 2]
    means = list(watched.averages())
    assert equal(watched.begun[1], watched.steps[2])
    assert not equal(watched.begun[1], means[2])
    kept = trainee_of().inference_model
    load_weights(kept, path)
    assert equal(values(kept.trainable_variables), means[5])
    assert not equal(values(kept.trainable_variables), watched.steps[5])


def test_validation_shows_the_network_every_image_at_its_size():
    """Seven images of 64 pixels in batches of three, for a network of 32; the last batch is filled
    up."""
    keras.utils.set_random_seed(3)
    cache = cache_of(*(labelled(n) for n in range(7)), side=64)
    cache._pixels[:] = np.random.default_rng(0).integers(0, 256, cache._pixels.shape)
    model = trainee_of().inference_model
    _, found = scoring_of(model, cache, 3)._evaluate()
    found = _predictions(cache.dataset, found)
    images = np.stack([resize_area(image, 32, 32) for image in cache.images(slice(None))])
    outputs = average([(model, 1.0)])(images[..., None].astype(np.float32), training=False)
    expected = to_uint8(keras.ops.convert_to_numpy(outputs["mask"]))
    assert np.abs(found.opacity.astype(int) - expected).max() <= 1
    assert len(np.unique(found.opacity)) > 50
    scores = keras.ops.convert_to_numpy(outputs["image"])[:, 0]
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)
    assert np.ptp(scores) > 1e-4
