"""Several devices share each batch: the curve is one device's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from lungbox.errors import LungboxError
from lungbox.training import loop
from lungbox.training.devices import distributed
from tests.conftest import ROOT
from tests.small import registered
from tests.training.runs import Recorder, config_of, written

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

# A run, and the same interrupted in its second epoch and resumed, on two devices.
RESUMED = """
import json, sys
from pathlib import Path
import tensorflow as tf
(processor,) = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(processor, two)
tf.config.experimental.enable_op_determinism()
from tests.training.runs import Recorder, train
from tests.small import registered
folder, losses = Path(sys.argv[1]), []
changes = ["devices=all", "data={ samples_per_epoch = 20 }", "augmentation.enabled=true",
           "stages=[{ epochs = 2, image_size = 32 }]"]
with registered():
    for name, stop_after in (("whole", 9), ("stopped", 1), ("stopped", 9)):
        recorder = Recorder(stop_after)
        try:
            train(folder, name, *changes, progress=recorder)
        except KeyboardInterrupt:
            continue
        losses.append(recorder.losses)
print(json.dumps(losses))
"""


def losses(devices, folder):
    """On how many devices of this process a run was, and its steps' losses."""
    name = f"{keras.backend.backend()}-{devices}"
    config, recorder = config_of(Path(folder), name, f"devices={devices}"), Recorder()
    with distributed(config.load_recipe()) as count:
        pass
    with registered():
        loop.train(config, recorder)
    return count, recorder.losses


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    # Folds 1-4 hold 13 images: the last batch has one.
    return written(tmp_path_factory.mktemp("devices"), 17, RECIPE)


def on_two_processors(code, folder):
    """TensorFlow has as many devices as it is told before it starts."""
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, folder],
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
def test_two_devices_follow_one(folder, backend, other_backend):
    if backend == "jax":
        found = [other_backend.call(losses, devices, folder) for devices in ("one", "all")]
    else:
        found = on_two_processors(TWO_PROCESSORS, folder)
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


@pytest.mark.slow
def test_a_resumed_run_on_two_devices_continues_the_uninterrupted_one(folder):
    """So its second epoch has the same batches in the same order, however far Keras reads ahead."""
    whole, resumed = on_two_processors(RESUMED, folder)
    assert len(whole) == 2 * 5
    assert resumed == pytest.approx(whole[5:], abs=1e-6)
