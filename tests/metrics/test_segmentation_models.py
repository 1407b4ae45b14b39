"""Our overlap of masks beside that of segmentation-models, which the reference system trained with.

That package needs Keras 2, so it runs in a process of its own.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from lungbox.metrics import MeanIoU, soft_iou

pytest.importorskip("tf_keras")

PROGRAM = """
import sys
import numpy as np
import segmentation_models as sm

with np.load(sys.argv[1]) as kept:
    truth, guess = kept["truth"], kept["guess"]
found = {}
for name, indexes in (("foreground", [1]), ("each", None)):
    for image in (False, True):
        options = dict(class_indexes=indexes, per_image=image)
        key = f"{name} {'image' if image else 'batch'}"
        loss = sm.losses.JaccardLoss(smooth=1.0, **options)
        metric = sm.metrics.IOUScore(smooth=1.0, **options)
        found[f"loss {key}"] = [float(loss(t, g)) for t, g in zip(truth, guess)]
        found[f"metric {key}"] = [float(metric(t, g)) for t, g in zip(truth, guess)]
hard = sm.metrics.IOUScore(threshold=0.5)
found["hard"] = [float(hard(t, g)) for t, g in zip(truth, guess)]
np.savez(sys.argv[2], **found)
"""


@pytest.fixture(scope="module")
def masks():
    """`(20, B, h, w, 2)`: one-hot truth of 0 to 60 % opacity, and probabilities."""
    random = np.random.default_rng(5)
    shares = np.linspace(0, 0.6, 20).reshape(-1, 1, 1, 1)
    truth = random.random((20, 3, 16, 16)) < shares
    guess = random.random((20, 3, 16, 16))
    return tuple(np.stack([1 - m, m], axis=-1).astype(np.float32) for m in (truth, guess))


@pytest.fixture(scope="module")
def theirs(masks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    np.savez(folder / "masks.npz", truth=masks[0], guess=masks[1])
    environment = {**os.environ, "SM_FRAMEWORK": "tf.keras", "TF_USE_LEGACY_KERAS": "1"}
    files = (folder / "masks.npz", folder / "found.npz")
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *map(str, files)]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return dict(np.load(files[1]))


@pytest.mark.parametrize("over", ["batch", "image"])
@pytest.mark.parametrize("channels", ["foreground", "each"])
def test_overlap_is_theirs(masks, theirs, over, channels):
    ours = [
        float(keras.ops.convert_to_numpy(soft_iou(t, g, 1.0, over, channels)))
        for t, g in zip(*masks, strict=True)
    ]
    assert np.allclose(ours, theirs[f"metric {channels} {over}"], atol=1e-6)
    assert np.allclose(1 - np.array(ours), theirs[f"loss {channels} {over}"], atol=1e-6)
    assert np.ptp(ours) > 0.05


def test_mean_iou_is_theirs(masks, theirs):
    ours = []
    for truth, guess in zip(*masks, strict=True):
        metric = MeanIoU()
        metric.update_state(truth, guess)
        ours.append(float(metric.result()))
    assert np.allclose(ours, theirs["hard"], atol=1e-6)
