"""Several devices share each batch: the curve is one device's."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.training.runs import written

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
from lungbox.training import loop
from lungbox.training.devices import distributed
from tests.training.runs import Recorder, config_of
from tests.training.small import registered
config = config_of(Path(folder), f"{backend}-{devices}", f"devices={devices}")
recorder = Recorder()
with distributed(config.load_recipe()) as count:
    pass
with registered():
    loop.train(config, recorder)
print(json.dumps([count, recorder.losses]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    # Folds 1-4 hold 13 images: the last batch has one.
    return written(tmp_path_factory.mktemp("devices"), 17, RECIPE)


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
