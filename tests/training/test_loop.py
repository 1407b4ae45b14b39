"""What a run does beside learning: it scores, stops, freezes, paints edges, learns from others."""

import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from safetensors import safe_open

from lungbox import architecture
from lungbox.datasets import DatasetError, load
from lungbox.datasets.phantom import draw
from lungbox.errors import LungboxError
from lungbox.metrics import F1, MeanIoU, PixelAccuracy, ReferenceMeanIoU, soft_iou
from lungbox.radiograph import prepare, read, resize_area
from lungbox.training import recipe as recipe_module
from lungbox.training.callbacks import patience_exhausted
from lungbox.training.data import load_training_data
from lungbox.training.loggers import EpochMetrics, best_epoch, read_log
from lungbox.training.recipe import load_recipe
from lungbox.training.run import run, run_all_folds
from lungbox.training.targets import rasterize
from lungbox.training.validation import Score, ValidationScorer
from lungbox.weights.formats.safetensors import load_weights
from lungbox.weights.manifest import load_manifest
from tests.conftest import ROOT
from tests.tiny import enter_tiny
from tests.training import runs
from tests.training.runs import Recorder, config_of, written

pytestmark = pytest.mark.usefixtures("small_networks")

RECIPE = """
name = "loop"
architecture = "two_convolutions"
encoder_weights = "none"
batch_size = 4
[data]
folds = [1, 2, 3, 4]
samples_per_epoch = 8
[[stages]]
epochs = 3
image_size = 32
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written(tmp_path_factory.mktemp("loop"), 30, RECIPE)


def train(folder, name, *changes, **settings):
    recorder = Recorder()
    return runs.train(folder, name, *changes, progress=recorder, **settings), recorder


def keys(path):
    with safe_open(path, framework="numpy") as file:
        return set(file.keys())


def test_the_held_out_fold_is_scored_when_it_is_due(folder):
    path, notes = train(folder, "scored", "validation={ fold = 0, every = 2 }")
    scores = [epoch.rsna_metric for epoch in notes.epochs]
    assert np.isnan(scores[0])
    assert 0 <= scores[1] <= 1
    assert 0 <= scores[2] <= 1  # the last epoch always is
    kept = read_log(path.parent)
    assert [epoch.auc for epoch in kept[1:]] == [epoch.auc for epoch in notes.epochs[1:]]
    assert kept[0].images_per_second > 0
    assert kept[2].learning_rate < kept[0].learning_rate or kept[0].learning_rate == 0


def test_the_held_out_fold_is_measured_as_keras_does_by_hand(folder):
    """Loss and metrics of the weights that are kept, on all of the fold and not augmented."""
    changes = ("validation={ fold = 0, every = 3, batch_size = 3 }", "optimizer.ema=0.5")
    path, notes = train(folder, "measured", *changes, "loss.image=0.25")
    first, _, last = notes.epochs
    assert np.isnan(first.val_loss)
    recipe = load_recipe(folder / "recipe.toml", changes)
    images = [image for image in load(folder / "data").images if image.fold == 0]
    network = architecture.build("two_convolutions", 32)
    load_weights(network, path)
    pixels = np.stack([prepare(read(image.path).pixels, 32) for image in images])
    painted = [rasterize(image.boxes, image.size, 32) for image in images]
    opacity = np.stack([resize_area(mask, 8, 8) for mask in painted]) / 255
    truth = np.stack([1 - opacity, opacity], axis=-1).astype(np.float32)
    target = np.array([[float(len(image.boxes) > 0)] for image in images], np.float32)
    found = network.predict(pixels[..., None].astype(np.float32), verbose=0)
    for name, metric in {
        "val_accuracy": PixelAccuracy(),
        "val_mean_iou": MeanIoU(),
        "val_reference_mean_iou": ReferenceMeanIoU(),
        "val_f1": F1(),
    }.items():
        metric.update_state(truth, found["mask"])
        assert getattr(last, name) == pytest.approx(float(metric.result()), abs=2e-3), name
    logits = keras.Model(network.input, network.get_layer("mask_logits").output)
    logits = logits.predict(pixels[..., None].astype(np.float32), verbose=0)
    order = np.random.default_rng(recipe.seed).permutation(len(images))
    losses = []
    for first in range(0, len(order), 3):
        part = order[first : first + 3]
        overlap = soft_iou(truth[part], found["mask"][part], channels="foreground")
        # Keras on TensorFlow takes what the softmax is of, and each channel of it as a sigmoid's.
        pixelwise = np.logaddexp(0, logits[part]) - truth[part] * logits[part]
        losses.append(0.5 * pixelwise.mean() + 0.5 * (1 - float(overlap)))
    of_images = -np.log(np.where(target, found["image"], 1 - found["image"])).mean()
    expected = np.mean(losses) + 0.25 * of_images
    assert last.val_loss == pytest.approx(expected, abs=2e-3)
    assert last.val_loss != pytest.approx(last.loss, abs=2e-3)


def test_edges_are_measured_on_a_last_batch_that_is_padded(folder):
    """Six images in batches of four; the padding counts for nothing."""
    changes = ("loss.edges=0.5", "stages=[{ epochs = 1, image_size = 32 }]")
    losses = []
    for size in (2, 4):
        scoring = f"validation={{ fold = 0, batch_size = {size} }}"
        only_edges = ("loss={ edges = 0.5, bce = 0.0, iou = 0.0, image = 0.0 }",)
        _, recorder = train(folder, f"padded-{size}", changes[1], *only_edges, scoring)
        losses.append(recorder.epochs[0].val_loss)
    assert losses[0] > 0.05
    assert losses[1] == pytest.approx(losses[0], rel=0.2)


def test_the_history_is_drawn(folder, drawn_pictures):
    path, _ = train(folder, "drawn", "validation={ fold = 0, every = 1 }")
    with Image.open(path.parent / "history.png") as picture:
        drawn = np.asarray(picture.convert("RGB"))
    assert drawn.shape == (720, 1080, 3)
    # Two lines in each of the four panels, of the first two colours.
    for panel in (drawn[:360, :540], drawn[:360, 540:], drawn[360:, :540], drawn[360:, 540:]):
        for colour in ((31, 119, 180), (255, 127, 14)):
            assert np.sum(np.abs(panel.astype(int) - colour).sum(axis=-1) < 30) > 50


def test_tensorboard_finds_every_epoch(folder):
    path, notes = train(folder, "watched")
    (events,) = (path.parent / "tensorboard").iterdir()
    found = events.read_bytes()
    assert found.count(b"mask_loss") == len(notes.epochs) == 3
    assert b"rsna_metric" not in found  # nothing was scored


def test_patience_keeps_the_best_and_says_so(folder, own_home, monkeypatch):
    """The metric is made to fall, so the first score is the best."""
    values = iter([0.5, 0.4, 0.3, 0.2, 0.1])
    monkeypatch.setattr(ValidationScorer, "score", lambda _: Score(next(values), 0.5))
    path, notes = train(folder, "patient", "validation={ fold = 0, every = 1, patience = 1 }")
    assert "Stopped early: no better since epoch 1" in notes.notes
    assert [epoch.epoch for epoch in notes.epochs] == [1, 2]
    assert {item.name for item in path.parent.iterdir()} == {
        "recipe.toml", "images.csv", "log.csv", "history.png", "tensorboard",
        "weights.safetensors",
    }  # fmt: skip


def test_who_was_best_and_who_has_waited():
    recipe = load_recipe(ROOT / "recipes/lite0.toml", ["validation={ fold = 0, patience = 2 }"])
    nan = float("nan")
    values = [nan, 0.3, nan, 0.4, nan, 0.4, nan, 0.1]
    epochs = [EpochMetrics.of(n + 1, {"rsna_metric": v}) for n, v in enumerate(values)]
    assert best_epoch(epochs) == 4
    assert not patience_exhausted(recipe, epochs[:7])
    assert patience_exhausted(recipe, epochs)
    assert best_epoch(epochs[:1]) == 0


def test_a_network_of_the_references_gets_its_preparation_and_box_rule(folder, own_home):
    """Whatever the recipe: it reads the pixels its twin read, and is entered with its rule."""
    changes = ("architecture=like_the_reference", "stages=[{ epochs = 1, image_size = 32 }]")
    config = config_of(folder, "like", *changes)
    name = run(config, Console(quiet=True))
    ensemble = load_manifest().ensemble(name)
    assert ensemble.preparation == "nearest"
    assert (ensemble.compatibility, ensemble.rule) == ("reference", "argmax")
    assert (ensemble.min_area, ensemble.shrink) == (25_000 / 1024**2, 0.05)
    recipe = load_recipe(folder / "recipe.toml", changes)
    training_data = load_training_data(recipe, config, Recorder())
    image = training_data.images.dataset.images[0]
    expected = prepare(read(image.path).pixels, 32, "nearest")
    assert np.array_equal(training_data.images.images(0), expected)
    told = load_recipe(folder / "recipe.toml", [*changes, "data.preparation=equalised"])
    assert told.preparation == "equalised"


def test_edges_are_learned_and_not_kept(folder):
    plain, _ = train(folder, "plain")
    path, notes = train(folder, "edges", "loss.edges=0.5")
    assert notes.epochs[0].edges_loss > 0
    assert np.isnan(read_log(plain.parent)[0].edges_loss)
    assert keys(path) == keys(plain)


def test_a_frozen_encoder_stays_as_it_was(folder):
    changes = ("architecture=unet_lite0", "encoder_weights=imagenet")
    changes += ("optimizer.encoder_learning_rate=0", "stages=[{ epochs = 1, image_size = 32 }]")
    path, _ = train(folder, "frozen", *changes)
    fresh = architecture.build("unet_lite0", 32)
    from lungbox.weights.formats.imagenet import load_encoder

    pretrained = load_encoder(fresh, "EfficientNet-Lite0", None)
    start = {variable.path: np.asarray(variable) for variable in fresh.weights}
    moved = 0
    with safe_open(path, framework="numpy") as file:
        for key in file.keys():  # noqa: SIM118, it is no dictionary
            same = np.array_equal(file.get_tensor(key), start[key])
            if key in pretrained:
                assert same, key
            moved += not same
    assert moved > 10


def test_distillation_learns_from_all_images(folder, own_home, tmp_path):
    enter_tiny(tmp_path)
    more = tmp_path / "more"
    more.mkdir()
    for number, path in enumerate(sorted((folder / "data/images").iterdir())[:5]):
        new = draw(64, number % 3, np.random.default_rng((9, number))).pixels
        Image.fromarray(new).save(more / f"new-{number}.png")
        shutil.copyfile(path, more / path.name)  # known, perhaps of the held-out fold
    (more / "broken.png").write_bytes(b"no picture")
    taught = ("distillation={ teacher = 'tiny', share = 0.6 }",)
    path, notes = train(folder, "student", *taught, unlabelled=more)
    assert path.is_file()
    assert any("5 of 10 are in" in note and "left out" in note for note in notes.notes)
    assert any("broken.png" in note for note in notes.notes)
    with pytest.raises(LungboxError, match="no ensemble"):
        train(folder, "nobody", "distillation={ teacher = 'nobody' }")
    with pytest.raises(LungboxError, match="for distillation only"):
        train(folder, "alone", unlabelled=more)


def test_what_would_fool_oneself_is_refused_before_the_first_fold(folder, own_home, tmp_path):
    enter_tiny(tmp_path)
    for changes, fault in (
        (("validation={ fold = 0, patience = 1 }",), "without patience"),
        (("distillation.teacher='tiny'",), "was trained on folds"),
    ):
        config = config_of(folder, tmp_path / "run", *changes)
        with pytest.raises(LungboxError, match=fault):
            run_all_folds(config, Console(quiet=True))
        assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_leaves_the_last_good_state(folder, monkeypatch):
    def with_a_rate_no_recipe_may_have(path, changes):
        recipe = load_recipe(path, changes)
        optimizer = recipe.optimizer.model_copy(update={"learning_rate": 1e30})
        return recipe.model_copy(update={"optimizer": optimizer})

    monkeypatch.setattr(recipe_module, "load_recipe", with_a_rate_no_recipe_may_have)
    with pytest.raises(LungboxError, match="the loss is nan in epoch 1: give a lower"):
        train(folder, "burst", "optimizer.warmup=0")
    assert not (folder / "burst/state.safetensors").exists()


def test_the_size_of_the_best_epoch_is_entered(folder, own_home, monkeypatch):
    values = iter([0.5, 0.1, 0.1, 0.1])
    monkeypatch.setattr(ValidationScorer, "score", lambda _: Score(next(values), 0.5))
    stages = "stages=[{ epochs = 1, image_size = 32 }, { epochs = 2, image_size = 64 }]"
    changes = (stages, "validation={ fold = 0, every = 1, patience = 3 }")
    name = run(config_of(folder, "sizes", *changes), Console(quiet=True))
    weights = load_manifest().weights[name]
    assert (weights.image_size, weights.selected_on) == (32, 0)
    assert "--set stages=" in weights.recipe
    assert not list((folder / "sizes").glob("best-*"))


def test_a_held_out_fold_that_cannot_be_read_is_said(folder, tmp_path):
    shutil.copytree(folder / "data/images", tmp_path / "data/images")
    for table in (folder / "data").glob("*.csv"):
        shutil.copyfile(table, tmp_path / "data" / table.name)
    for number in range(0, 30, 5):
        image = tmp_path / f"data/images/phantom-{number:04d}.png"
        image.write_bytes(image.read_bytes()[:200])  # its header is whole
    (tmp_path / "recipe.toml").write_text(RECIPE)
    with pytest.raises(DatasetError, match="no image could be read"):
        train(tmp_path, "run", "validation.fold=0")


def test_the_average_is_scored_while_training_goes_on(folder):
    """On JAX, too: `tests/test_jax.py`."""
    changes = ("options={ dropout = 0.3 }", "validation={ fold = 0, every = 1 }")
    path, _ = train(folder, "average", *changes)
    kept = read_log(path.parent)
    assert len(kept) == 3
    assert all(epoch.rsna_metric >= 0 for epoch in kept)


def test_a_teacher_that_saw_the_held_out_fold_is_refused(folder, own_home, tmp_path):
    enter_tiny(tmp_path)  # trained on folds 1 to 4
    changes = ("data.folds=[0, 1]", "validation.fold=2", "distillation.teacher='tiny'")
    with pytest.raises(LungboxError, match="tiny, the teacher, was trained on fold 2"):
        train(folder, "leaks", *changes)


def test_what_the_teacher_has_seen_counts_as_seen_by_the_student(folder, own_home, tmp_path):
    enter_tiny(tmp_path)  # trained on folds 1 to 4
    changes = (
        "data.folds=[0]",
        "distillation.teacher='tiny'",
        "stages=[{ epochs = 1, image_size = 32 }]",
    )
    name = run(config_of(folder, tmp_path / "run", *changes), Console(quiet=True))
    assert load_manifest().training_folds(name) == {0, 1, 2, 3, 4}


def test_only_the_chosen_data_sets_are_learned_from(folder):
    with pytest.raises(DatasetError, match="no image of siim is in the recipe's folds"):
        train(folder, "others", "data.sources=['siim']")
    with pytest.raises(LungboxError, match=r"data.sources: rsnaa is not known; did you mean rsna"):
        train(folder, "misspelt", "data.sources=['rsna', 'rsnaa']")


def test_a_fold_that_is_not_there_cannot_be_scored(folder):
    with pytest.raises(DatasetError, match=r"no image is in validation.fold 7"):
        train(folder, "nowhere", "validation.fold=7")


KILLED = """
import sys
from pathlib import Path
from lungbox.common.backend import start_keras
start_keras()
import keras
keras.utils.set_random_seed(0)
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    tf.config.experimental.enable_op_determinism()
from lungbox.training.progress import TrainingProgress
from tests.training.runs import train
from tests.small import registered
class Printed(TrainingProgress):
    def step(self, loss):
        print("step", flush=True)
    def epoch(self, epoch):
        print("epoch", flush=True)
changes = ["options={ dropout = 0.3 }", "validation={ fold = 0, every = 1 }"]
with registered():
    train(Path(sys.argv[1]), sys.argv[2], *changes, progress=Printed())
"""


@pytest.mark.long("three runs in processes of their own on each backend")
@pytest.mark.release
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_kill_9_in_an_epoch_and_again_gives_the_same_curve(folder, backend):
    pytest.importorskip(backend)
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}

    def start(name):
        return subprocess.Popen(
            [sys.executable, "-c", KILLED, folder, name],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    with start(f"{backend}-whole") as process:
        process.communicate(timeout=200)
    with start(f"{backend}-killed") as process:
        seen = 0
        for line in process.stdout:
            seen += line == "epoch\n"
            if seen == 1 and line == "step\n":
                process.send_signal(signal.SIGKILL)
                break
    time.sleep(0.1)
    with start(f"{backend}-killed") as process:
        process.communicate(timeout=200)
    whole, killed = (read_log(folder / f"{backend}-{name}") for name in ("whole", "killed"))
    assert len(whole) == len(killed) == 3
    for ours, theirs in zip(killed, whole, strict=True):
        for key in ("loss", "mask_loss", "image_loss", "rsna_metric", "auc"):
            assert getattr(ours, key) == pytest.approx(getattr(theirs, key), abs=1e-6)


@pytest.mark.slow
def test_every_fold_is_trained_and_predicted_by_those_who_have_not_seen_it(
    folder, own_home, tmp_path
):
    changes = ("stages=[{ epochs = 1, image_size = 32 }]",)
    name = run_all_folds(config_of(folder, tmp_path / "all", *changes), Console(quiet=True))
    manifest = load_manifest()
    members = manifest.ensemble(name).members
    assert len(members) == 5
    for fold, member in enumerate(members):
        assert manifest.weights[member].folds == tuple(k for k in range(5) if k != fold)
    with np.load(tmp_path / "all/out_of_fold.npz") as kept:
        assert sorted(kept["identity"]) == [f"phantom-{n:04d}" for n in range(30)]
        assert all(
            int(i[-4:]) % 5 == f for i, f in zip(kept["identity"], kept["fold"], strict=True)
        )
        assert kept["opacity"].dtype == np.uint8
        assert kept["opacity"].shape[0] == kept["score"].shape[0] == 30
