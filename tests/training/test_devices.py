"""Several devices share each batch: the curve is one device's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from lungbox.datasets.phantom import write_rsna
from lungbox.errors import LungboxError
from lungbox.training import loop
from lungbox.training.config import TrainingConfig, TrainingProgress
from lungbox.training.devices import distributed
from lungbox.training.recipe import load_recipe
from tests.conftest import ROOT
from tests.small import registered

# Dropout and augmentation off: all that is left is how the batch is shared.
RECIPE = """
name = "shared"
architecture = "two_convolutions"
encoder_weights = "none"
batch_size = 4
options = { dropout = 0.0 }
[data]
order = "fixed"
[augmentation]
enabled = false
[loss]
dice = 0.2
[[stages]]
epochs = 3
image_size = 32
"""

TWO_PROCESSORS = """
import json, sys
import tensorflow as tf
(processor,) = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(processor, two)
from tests.training.test_devices import losses
print(json.dumps([losses(devices, sys.argv[1]) for devices in ("one", "all")]))
"""


def losses(devices, folder):
    """On how many devices of this process a run was, and its steps' losses."""
    folder = Path(folder)
    backend, found = keras.backend.backend(), []
    changes = [f"devices={devices}"]
    run = folder / f"{backend}-{devices}"
    config = TrainingConfig(folder / "recipe.toml", folder / "data", run, folder / "cache", changes)
    told = TrainingProgress()
    told.step = found.append
    with distributed(load_recipe(config.recipe, changes)) as count:
        pass
    with registered():
        loop.train(config, told)
    return count, found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    write_rsna(folder / "data", count=17, size=64)  # folds 1-4 hold 13: the last batch is one image
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def on_two_processors(folder):
    """TensorFlow has as many devices as it is told before it starts."""
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", TWO_PROCESSORS, folder],
        capture_output=True,
        text=True,
        timeout=280,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def on_jax(folder, other_backend):
    return [other_backend.call(losses, devices, folder) for devices in ("one", "all")]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_two_devices_follow_one(folder, backend, other_backend):
    found = on_jax(folder, other_backend) if backend == "jax" else on_two_processors(folder)
    (one, alone), (two, shared) = found
    assert (one, two) == (1, 2)
    assert len(alone) == len(shared) == 3 * 4
    # On TensorFlow each device normalises and takes the IoU of its own half.
    tolerance = 1e-5 if backend == "jax" else 0.3
    assert shared == pytest.approx(alone, abs=tolerance)
    assert shared[-1] < shared[0]


def test_a_batch_that_cannot_be_shared_is_refused(folder, other_backend):
    (folder / "odd").mkdir()
    (folder / "odd/data").symlink_to(folder / "data")
    odd = RECIPE.replace("batch_size = 4", "batch_size = 5")
    (folder / "odd/recipe.toml").write_text(odd)
    with pytest.raises(LungboxError, match="cannot be shared by 2 devices"):
        other_backend.call(losses, "all", folder / "odd")
