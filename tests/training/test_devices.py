"""Several devices share each batch: the curve is one device's."""

import json
import os
import subprocess
import sys

import pytest

from lungbox.datasets.phantom import write_rsna
from tests.conftest import ROOT

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

RUN = """
import json, os, sys
from pathlib import Path
backend, devices, folder = sys.argv[1:]
if backend == "tensorflow":
    import tensorflow as tf
    (processor,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, two)
from lungbox.training import fit
from lungbox.training.devices import distributed
from lungbox.training.job import Job, Progress
from lungbox.training.recipe import load_recipe
from tests.training.small import registered
folder = Path(folder)
class Told(Progress):
    losses = []
    def step(self, loss):
        self.losses.append(loss)
changes = [f"devices={devices}"]
job = Job(folder / "recipe.toml", folder / "data", folder / f"{backend}-{devices}",
          folder / "cache", changes)
with distributed(load_recipe(job.recipe, changes)) as count:
    pass
with registered():
    fit.train(job, Told())
print(json.dumps([count, Told.losses]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    write_rsna(folder / "data", count=17, size=64)  # folds 1-4 hold 13: the last batch is one image
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def losses(backend, devices, folder):
    environment = os.environ | {
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, backend, devices, folder],
        capture_output=True,
        text=True,
        timeout=280,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_two_devices_follow_one(folder, backend):
    (one, alone), (two, shared) = (losses(backend, name, folder) for name in ("one", "all"))
    assert (one, two) == (1, 2)
    assert len(alone) == len(shared) == 3 * 4
    # On TensorFlow each device normalises and takes the IoU of its own half.
    tolerance = 1e-5 if backend == "jax" else 0.3
    assert shared == pytest.approx(alone, abs=tolerance)
    assert shared[-1] < shared[0]


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_refused(folder):
    (folder / "recipe.toml").write_text(RECIPE.replace("batch_size = 4", "batch_size = 5"))
    try:
        with pytest.raises(AssertionError, match="cannot be shared by 2 devices"):
            losses("jax", "all", folder)
    finally:
        (folder / "recipe.toml").write_text(RECIPE)
