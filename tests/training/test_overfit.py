"""Each of the four can learn: eight real radiographs by heart, from random weights."""

import keras
import numpy as np
import pytest

from lungbox import architecture, datasets
from lungbox.metrics import IoUBinaryCrossentropy, MeanIoU
from lungbox.radiograph import prepare, read
from lungbox.training.targets import rasterize

SIDE, COUNT, STEPS, MOST = 64, 8, 25, 200


@pytest.fixture(scope="module")
def radiographs(shared):
    """Prepared radiographs with opacity, and their masks."""
    positive = datasets.load(shared / "rsna").where(lambda image: image.target).images
    chosen = positive[:: len(positive) // COUNT][:COUNT]
    images = [prepare(read(image.path).pixels, SIDE) for image in chosen]
    opacity = [rasterize(image.boxes, image.size, SIDE) / 255 for image in chosen]
    masks = np.stack([[1 - mask, mask] for mask in opacity]).transpose(0, 2, 3, 1)
    return np.stack(images)[..., None].astype(np.float32), masks.astype(np.float32)


def mean_iou(network, images, masks) -> float:
    metric = MeanIoU()
    metric.update_state(masks, network.predict(images, verbose=0))
    return float(metric.result())


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.long("up to 200 steps of large networks")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("unet_densenet121", marks=pytest.mark.release),
        "unet_resnet152",
        "unet_vgg19_attention",
        "aspp_resnet152",
    ],
)
def test_eight_radiographs_by_heart(radiographs, name):
    images, masks = radiographs
    keras.utils.set_random_seed(3)
    whole = architecture.build(name, SIDE)
    network = keras.Model(whole.input, whole.output["mask"])
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # The moving averages are to be those of the last steps, not of the first hundred.
            layer.momentum = 0.9
    network.compile(
        keras.optimizers.Adam(3e-4, clipnorm=1.0),
        IoUBinaryCrossentropy(channels="foreground"),
        jit_compile=False,
    )
    before = matched_truths = mean_iou(network, images, masks)
    taken = 0
    while matched_truths <= 0.9 and taken < MOST:
        for _ in range(STEPS):
            network.train_on_batch(images, masks)
        taken += STEPS
        matched_truths = mean_iou(network, images, masks)
    assert before < 0.6
    assert matched_truths > 0.9
