"""A whole run on phantoms: it learns, leaves a folder that explains itself, and can be stopped."""

import csv
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from lungbox import architecture
from lungbox.datasets import DatasetError
from lungbox.datasets.phantom import write_rsna
from lungbox.errors import LungboxError
from lungbox.training import loop
from lungbox.training.optimizer import build_optimizer, moving_average_weights
from lungbox.training.progress import TrainingProgress
from lungbox.training.recipe import RecipeError, load_recipe
from lungbox.training.sections import Optimizer
from lungbox.weights.formats.safetensors import WeightsError, load_weights
from tests.conftest import ROOT
from tests.training.runs import Recorder, config_of, train, written

pytestmark = pytest.mark.usefixtures("small_networks")

RECIPE = """
name = "phantoms"
architecture = "two_convolutions"
encoder_weights = "none"
batch_size = 8
seed = 5
[data]
folds = [1, 2, 3, 4]
samples_per_epoch = 48
[optimizer]
ema = 0.5
[[stages]]
epochs = 2
image_size = 32
[[stages]]
epochs = 1
image_size = 64
"""

LITE = """
name = "light"
architecture = "unet_lite0"
encoder_weights = "imagenet"
batch_size = 8
[data]
folds = [1, 2, 3, 4]
samples_per_epoch = 96
[optimizer]
ema = 0
warmup = 0
[[stages]]
epochs = 2
image_size = 64
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("fit"), 15, RECIPE)


@pytest.fixture(scope="module")
def uninterrupted(folder):
    recorder = Recorder()
    return train(folder, "uninterrupted", progress=recorder), recorder


def log(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_it_learns_and_leaves_its_folder(folder, uninterrupted):
    path, recorder = uninterrupted
    assert len(recorder.losses) == 3 * 6
    assert recorder.epochs[1].loss < recorder.epochs[0].loss
    left = {item.name for item in path.parent.iterdir()}
    logs = {"log.csv", "history.png", "tensorboard"}
    assert left == {"recipe.toml", "images.csv", "weights.safetensors"} | logs
    assert load_recipe(path.parent / "recipe.toml") == load_recipe(folder / "recipe.toml")
    rows = log(path.parent / "log.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for row, epoch in zip(rows, recorder.epochs, strict=True):
        assert float(row["loss"]) == pytest.approx(epoch.loss)
    load_weights(architecture.build("two_convolutions", 64), path)


@pytest.mark.long("trains EfficientNet-Lite0 for 24 steps")
@pytest.mark.release
def test_the_light_network_learns_from_its_pretrained_encoder(folder):
    (folder / "light.toml").write_text(LITE)
    recorder = Recorder()
    path = train(folder, "light", recipe="light.toml", progress=recorder)
    assert np.mean(recorder.losses[-6:]) < 0.9 * np.mean(recorder.losses[:3])
    load_weights(architecture.build("unet_lite0", 64), path)


def test_a_finished_run_is_not_run_again(folder, uninterrupted):
    path, _ = uninterrupted
    recorder = Recorder()
    assert train(folder, "uninterrupted", progress=recorder) == path
    assert not recorder.losses


def test_a_stopped_run_continues_after_its_last_epoch(folder, uninterrupted):
    with pytest.raises(KeyboardInterrupt):
        train(folder, "stopped", progress=Recorder(stop_after=1))
    recorder = Recorder()
    path = train(folder, "stopped", progress=recorder)
    assert [epoch.epoch for epoch in recorder.epochs] == [2, 3]
    _, whole = uninterrupted
    for again, first in zip(recorder.epochs, whole.epochs[1:], strict=True):
        assert again.loss == pytest.approx(first.loss, rel=1e-5)
    assert [row["epoch"] for row in log(path.parent / "log.csv")] == ["1", "2", "3"]


def test_a_stopped_run_of_sgd_continues_the_same(folder):
    """Its velocity and the step of its schedule are in the state."""
    changes = (
        "optimizer.kind=sgd", "optimizer.learning_rate=0.02", "optimizer.schedule=step",
        "optimizer.step_epochs=2", "stages=[{epochs=3,image_size=32}]",
    )  # fmt: skip
    whole, recorder = Recorder(), Recorder()
    paths = [train(folder, "sgd", *changes, progress=whole)]
    with pytest.raises(KeyboardInterrupt):
        train(folder, "sgd-stopped", *changes, progress=Recorder(stop_after=1))
    paths.append(train(folder, "sgd-stopped", *changes, progress=recorder))
    rates = [epoch.learning_rate for epoch in whole.epochs]
    assert rates[1:] == pytest.approx([0.02, 0.002], rel=0.2)
    for again, first in zip(recorder.epochs, whole.epochs[1:], strict=True):
        assert again.loss == pytest.approx(first.loss, rel=1e-5)
    one, other = (architecture.build("two_convolutions", 32) for _ in paths)
    for model, path in zip((one, other), paths, strict=True):
        load_weights(model, path)
    for ours, theirs in zip(one.weights, other.weights, strict=True):
        np.testing.assert_allclose(np.array(ours), np.array(theirs), atol=1e-5)


def test_other_images_are_another_run(folder, tmp_path):
    """They would be drawn in another order, and the run be neither the one nor the other."""
    with pytest.raises(KeyboardInterrupt):
        train(folder, "fewer", progress=Recorder(stop_after=1))
    rows = log(folder / "fewer/images.csv")
    assert {row["use"] for row in rows} == {"trained on"}
    assert {row["fold"] for row in rows} == {"1", "2", "3", "4"}
    write_rsna(tmp_path / "data", count=18, size=64)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (folder / "fewer").rename(tmp_path / "fewer")
    with pytest.raises(RecipeError, match="a run on other images"):
        train(tmp_path, "fewer", progress=Recorder())


def test_another_recipes_folder_is_refused(folder):
    (folder / "taken").mkdir()
    (folder / "taken/recipe.toml").write_text(RECIPE.replace("seed = 5", "seed = 6"))
    (folder / "taken/log.csv").write_text("epoch\n1\n")
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        train(folder, "taken", progress=Recorder())


def test_a_mistaken_try_does_not_take_the_folder(folder, uninterrupted):
    """A recipe that cannot begin, and then the right one, in the same folder."""
    with pytest.raises(RecipeError, match="options: two_convolutions refuses them"):
        train(folder, "again", "options.dropout=2")
    path = train(folder, "again")
    assert (
        log(path.parent / "log.csv")[-1]["loss"]
        == log(uninterrupted[0].parent / "log.csv")[-1]["loss"]
    )


def test_a_run_killed_between_its_last_epoch_and_its_weights(folder, uninterrupted, monkeypatch):
    """The state is whole, the weights are not written: the next try writes them."""
    path, _ = uninterrupted
    run_folder = folder / "late"

    def fails(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_weights", fails)
        with pytest.raises(OSError, match="no space"):
            train(folder, "late", progress=Recorder())
    # As if the row of the last epoch had been written twice.
    log_path = run_folder / "log.csv"
    log_path.write_text(log_path.read_text() + "4,0,0,0,0\n")
    recorder = Recorder()
    assert train(folder, "late", progress=recorder) == run_folder / "weights.safetensors"
    assert not recorder.losses
    assert [row["epoch"] for row in log(log_path)] == ["1", "2", "3"]
    written, whole = (architecture.build("two_convolutions", 64) for _ in "ab")
    load_weights(written, run_folder / "weights.safetensors")
    load_weights(whole, path)
    for ours, theirs in zip(written.weights, whole.weights, strict=True):
        assert np.allclose(ours.numpy(), theirs.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (('"two_convolutions"', '"unet_lit0"'), "did you mean unet_lite0"),
        (("seed = 5", "seed = 5\noptions = { dropot = 0.1 }"), "did you mean dropout"),
        (("samples_per_epoch = 48", "samples_per_epoch = 4"), "less than one batch"),
        (("[optimizer]", "source_weights = { RSNA = 1.0 }\n[optimizer]"), "did you mean rsna"),
        (
            ("[optimizer]", 'category_weights = { "Norml" = 2.0 }\n[optimizer]'),
            "did you mean Normal",
        ),
        (("epochs = 1\n", "epochs = 1\nsource_weights = { rsna = 0 }\n"), "weight of 0"),
    ],
)
def test_mistakes_are_found_before_the_first_epoch(folder, change, fault):
    """And leave no run folder behind that the corrected recipe would not fit."""
    (folder / "wrong.toml").write_text(RECIPE.replace(*change))
    with pytest.raises(LungboxError, match=fault):
        train(folder, "wrong", recipe="wrong.toml")
    assert not (folder / "wrong").exists()


def test_the_reference_recipe_trains_a_network_without_an_image_head(folder):
    changes = ["architecture=only_a_mask", "encoder_weights=none", "batch_size=5"]
    changes.append("stages=[{ epochs = 2, image_size = 32 }]")
    run = train(folder, "reference", *changes, recipe=ROOT / "recipes/reference.toml").parent
    rows = list(csv.DictReader((run / "log.csv").read_text().splitlines()))
    assert [row["image_loss"] for row in rows] == ["nan", "nan"]
    for name in ("accuracy", "reference_mean_iou", "f1", "val_loss", "val_reference_mean_iou"):
        assert all(0 <= float(row[name]) < 2 for row in rows), name
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert (run / "weights.safetensors").is_file()


def test_one_of_lungboxs_own_recipes_given_by_its_name(folder, tmp_path, monkeypatch):
    """As pip installs it: no such file is in the user's folder."""
    (tmp_path / "installed").mkdir()
    own = tmp_path / "installed/short.toml"
    own.write_text(RECIPE.replace("epochs = 2", "epochs = 1"))
    monkeypatch.setattr("lungbox.training.recipe.shipped_recipes", lambda: own.parent)
    monkeypatch.chdir(tmp_path)
    config = replace(config_of(folder, tmp_path / "run"), recipe=Path("short"))
    path = loop.train(config, TrainingProgress())
    assert (path.parent / "recipe.toml").read_text() == own.read_text()


def test_a_changed_recipe_is_kept_as_it_was_run(folder):
    changes = ["data.samples_per_epoch=16", "seed=6", "stages=[{ epochs = 1, image_size = 32 }]"]
    train(folder, "changed", *changes)
    kept = load_recipe(folder / "changed/recipe.toml")
    assert kept == load_recipe(folder / "recipe.toml", changes)
    assert (kept.seed, kept.data.samples_per_epoch, kept.epochs) == (6, 16, 1)
    with pytest.raises(RecipeError, match="another recipe"):
        train(folder, "changed")


def test_a_damaged_state_is_named(folder):
    (folder / "damaged").mkdir()
    (folder / "damaged/recipe.toml").write_text(RECIPE)
    (folder / "damaged/state.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(WeightsError, match="remove it to start again"):
        train(folder, "damaged", progress=Recorder())


def test_folds_that_are_not_there(folder):
    (folder / "recipe9.toml").write_text(RECIPE.replace("[1, 2, 3, 4]", "[9]"))
    with pytest.raises(DatasetError, match="no image is in the recipe's folds 9"):
        train(folder, "9", recipe="recipe9.toml")


def test_the_encoder_takes_smaller_steps():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(4, name="encoder")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(4, name="head")(hidden))
    settings = Optimizer(
        learning_rate=0.1, encoder_learning_rate=0.01, warmup=0, weight_decay=0, ema=0
    )
    encoder, head = model.trainable_variables[0], model.trainable_variables[2]
    optimizer = build_optimizer(settings, model, 10, frozenset({encoder.path}))
    before = [variable.numpy().copy() for variable in (encoder, head)]
    gradients = [keras.ops.ones(v.shape) for v in model.trainable_variables]
    optimizer.apply(gradients, model.trainable_variables)
    # Adam's first step is its rate, whatever the gradient.
    assert np.allclose(before[0] - encoder.numpy(), 0.01, atol=1e-4)
    assert np.allclose(before[1] - head.numpy(), 0.1, atol=1e-3)


def test_the_reference_recipe_steps_as_adam_does():
    settings = load_recipe(ROOT / "recipes/reference.toml").optimizer
    ends = []
    for choice in (lambda m: build_optimizer(settings, m, 10, frozenset()), None):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((4,))
        model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
        optimizer = choice(model) if choice else keras.optimizers.Adam(1e-4)
        random = np.random.default_rng(2)
        for _ in range(20):  # ten more than the run has: the rate does not fall
            gradients = [random.normal(0, 100, v.shape) for v in model.trainable_variables]
            optimizer.apply(gradients, model.trainable_variables)
        ends.append([variable.numpy() for variable in model.trainable_variables])
    for ours, adams in zip(*ends, strict=True):
        assert np.allclose(ours, adams, rtol=0, atol=1e-6)


def test_the_average_is_taken_at_the_end():
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, name="head")(inputs))
    settings = Optimizer(learning_rate=0.1, warmup=0, weight_decay=0, ema=0.5)
    optimizer = build_optimizer(settings, model, 1000, frozenset())
    (weight,) = model.trainable_variables
    weight.assign([[0.0]])
    values = []
    for _ in range(3):
        optimizer.apply([keras.ops.ones((1, 1))], [weight])
        values.append(float(weight.numpy()[0, 0]))
    optimizer.finalize_variable_values([weight])
    second = 1 / 10 * values[0] + 9 / 10 * values[1]
    third = 2 / 11 * second + 9 / 11 * values[2]
    assert float(weight.numpy()[0, 0]) == pytest.approx(third, abs=1e-5)


def test_the_average_forgets_where_a_short_run_began():
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, name="head")(inputs))
    optimizer = build_optimizer(Optimizer(warmup=0, ema=0.998), model, 60, frozenset())
    (weight,) = model.trainable_variables
    weight.assign([[1000.0]])
    for _ in range(60):
        optimizer.apply([keras.ops.zeros((1, 1))], [weight])
        weight.assign([[0.0]])
    with moving_average_weights(model, optimizer):
        assert abs(float(weight.numpy()[0, 0])) < 0.01


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it is TensorFlow's kernel")
@pytest.mark.parametrize(
    ("policy", "close"), [("float32", 1e-5), ("mixed_bfloat16", 2.0**-6)], ids=lambda x: str(x)
)
def test_fused_batch_norm_is_batch_norm(policy, close):
    """In bfloat16 to its own last digit, of values up to 4."""
    from lungbox.training.devices import fuse_batch_norm

    images = np.random.default_rng(0).normal(3, 2, (4, 6, 5, 7)).astype(np.float32)
    models = []
    for fused in (False, True):
        inputs = keras.Input((6, 5, 7))
        norm = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3, dtype=policy)
        model = keras.Model(inputs, norm(inputs))
        norm.gamma.assign(np.linspace(0.5, 2, 7))
        norm.beta.assign(np.linspace(-1, 1, 7))
        if fused:
            fuse_batch_norm(model)
        models.append(model)
    for training in (True, True, False):
        plain, fused = (np.float32(model(images, training=training).numpy()) for model in models)
        assert np.abs(plain - fused).max() <= close
    for ours, theirs in zip(models[0].weights, models[1].weights, strict=True):
        assert ours.dtype == "float32"
        assert np.abs(ours.numpy() - theirs.numpy()).max() < max(1e-5, close / 8)
