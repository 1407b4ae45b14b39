"""The moving average of the weights, in a whole run: it is what is kept and what is scored."""

import keras
import numpy as np
import pytest

from lungbox.architecture.ensemble import average
from lungbox.datasets.phantom import write_rsna
from lungbox.evaluation.maps import levels
from lungbox.radiograph import resize_area
from lungbox.training import fit
from lungbox.training.fit import Validation
from lungbox.training.job import Job, Progress
from lungbox.training.validation import Score
from lungbox.weights.files import load_weights
from tests.training.keys import cache_of, labelled, scoring_of, trainee_of

pytestmark = pytest.mark.usefixtures("small_networks")

RECIPE = """
name = "average"
architecture = "two_convolutions"
encoder_weights = "none"
batch_size = 2
[data]
samples_per_epoch = 6
[augmentation]
enabled = false
[optimizer]
learning_rate = 0.05
warmup = 0
ema = 0.25
[validation]
fold = 0
every = 1
[[stages]]
epochs = 3
image_size = 32
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("average")
    write_rsna(folder / "data", count=15, size=64)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def values(variables):
    return [np.array(variable) for variable in variables]


class Watched(Progress):
    """Keeps the weights after every step, and those that are scored."""

    def __init__(self, monkeypatch, scores):
        self.steps, self.scored, self.begun = [], [], []
        built, epoch = fit.build_trainee, fit._train_epoch

        def build(*arguments):
            self.trainee = built(*arguments)
            return self.trainee

        def train(*arguments):
            self.begun.append(values(self.trainee.whole.trainable_variables))
            return epoch(*arguments)

        def score(validation):
            # What the scored network has at this moment, through its own layers.
            self.scored.append(values(validation._model.trainable_variables))
            return Score(scores[len(self.scored) - 1], 0.5)

        monkeypatch.setattr(fit, "build_trainee", build)
        monkeypatch.setattr(fit, "_train_epoch", train)
        monkeypatch.setattr(Validation, "score", score)

    def step(self, loss):
        self.steps.append(values(self.trainee.whole.trainable_variables))

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
    where = (folder / "recipe.toml", folder / "data", folder / f"run-{patience}", folder / "cache")
    path = fit.train(Job(*where, [f"validation.patience={patience}"]), watched)
    assert len(watched.steps) == 9
    means = list(watched.averages())
    for epoch in range(3):
        assert equal(watched.scored[epoch], means[3 * epoch + 2])
        assert not equal(watched.scored[epoch], watched.steps[3 * epoch + 2])
    for epoch in (1, 2):
        assert equal(watched.begun[epoch], watched.steps[3 * epoch - 1])
    kept = trainee_of().kept
    load_weights(kept, path)
    assert equal(values(kept.trainable_variables), means[3 * best - 1])
    assert not equal(values(kept.trainable_variables), watched.steps[3 * best - 1])


def test_validation_shows_the_network_every_image_at_its_size():
    """Seven images of 64 pixels in batches of three, for a network of 32; the last batch is filled
    up."""
    keras.utils.set_random_seed(3)
    cache = cache_of(*(labelled(n) for n in range(7)), side=64)
    cache._pixels[:] = np.random.default_rng(0).integers(0, 256, cache._pixels.shape)
    model = trainee_of().kept
    found = scoring_of(model, cache, 3)._maps()
    images = np.stack([resize_area(image, 32, 32) for image in cache.images(slice(None))])
    outputs = average([(model, 1.0)])(images[..., None].astype(np.float32), training=False)
    assert found.dataset == cache.dataset
    expected = levels(keras.ops.convert_to_numpy(outputs["mask"]))
    assert np.abs(found.opacity.astype(int) - expected).max() <= 1
    assert len(np.unique(found.opacity)) > 50
    scores = keras.ops.convert_to_numpy(outputs["image"])[:, 0]
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)
    assert np.ptp(scores) > 1e-4
