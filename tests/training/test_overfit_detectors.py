"""Each kind of detector can learn: sixteen radiographs by heart, from random weights."""

import keras
import numpy as np
import pytest

from lungbox import architecture, datasets
from lungbox.architecture.detection.losses import AnchorLoss, RoiLoss
from lungbox.boxes.geometry import scale
from lungbox.boxes.suppression import non_maximum_suppression
from lungbox.datasets.phantom import draw
from lungbox.metrics import BoxTable, voc_map
from lungbox.radiograph import equalise, prepare, read
from tests.conftest import SHARED

SIDE, STEPS, BATCH = 128, 100, 16
LOSSES = {
    "retinanet": {"anchors": AnchorLoss()},
    "fasterrcnn": {"rpn": AnchorLoss(any_class=True), "rois": RoiLoss()},
    "rfcn": {"rpn": AnchorLoss(any_class=True), "rois": RoiLoss()},
}


def radiographs(count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Real ones with opacity, and their boxes in 0-1; drawn ones where there are none."""
    if not SHARED.is_dir():
        drawn = [draw(SIDE, 1 + n % 2, np.random.default_rng(n)) for n in range(count)]
        pixels = [equalise(phantom.pixels) for phantom in drawn]
        return np.stack(pixels), [phantom.boxes / SIDE for phantom in drawn]
    positive = datasets.load(SHARED / "rsna").where(lambda image: image.target).images
    chosen = positive[:: len(positive) // count][:count]
    pixels = [prepare(read(image.path).pixels, SIDE) for image in chosen]
    return np.stack(pixels), [scale(image.boxes, image.size, (1, 1)) for image in chosen]


def mean_average_precision(model: keras.Model, images: np.ndarray, truth: list) -> float:
    found = model.predict(images, verbose=0)
    boxes, scores = [], []
    for of_image, confidences in zip(found["boxes"], found["scores"][..., 0], strict=True):
        kept = non_maximum_suppression(of_image, confidences, 0.4)
        boxes.append(of_image[kept])
        scores.append(confidences[kept])
    return voc_map(BoxTable.of(truth), BoxTable.of(boxes, scores), len(truth))


def learned(name: str, images: np.ndarray, boxes: list, most: int) -> tuple[float, float]:
    """The mean average precision before and after at most so many steps of Adam."""
    keras.utils.set_random_seed(1)
    options = {"drop_connect": 0.0} if name.endswith("lite0") else {}
    model = architecture.build(name, SIDE, **options)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # the moving averages are to be those of the last steps
    losses = LOSSES[name.partition("_")[0]]
    outputs = {raw: model.get_layer(raw).output for raw in losses}
    trained = keras.Model(model.input, outputs)
    trained.compile(keras.optimizers.Adam(1e-3, clipnorm=5.0), losses, jit_compile="auto")
    targets = np.full((len(images), max(map(len, boxes)), 5), -1, np.float32)
    for row, of_image in enumerate(boxes):
        targets[row, : len(of_image), :4], targets[row, : len(of_image), 4] = of_image, 0
    pixels = images[..., None].astype(np.float32)
    before = mean_average_precision(model, pixels, boxes)
    taken, after = 0, before
    while taken < most and after < 0.9:
        for _ in range(20):
            trained.train_on_batch(pixels, dict.fromkeys(losses, targets))
        taken += 20
        after = mean_average_precision(model, pixels, boxes)
    return before, after


@pytest.mark.slow
@pytest.mark.long("100 steps of a complete network")
@pytest.mark.parametrize("backend", ["ours", "other"])
@pytest.mark.parametrize("name", ["retinanet_lite0", "fasterrcnn_lite0"])
def test_sixteen_radiographs_by_heart(name, backend, other_backend):
    images, boxes = radiographs(BATCH)
    call = other_backend.call if backend == "other" else lambda function, *args: function(*args)
    before, after = call(learned, name, images, boxes, STEPS)
    assert before < 0.1
    assert after >= 0.9


@pytest.mark.slow
@pytest.mark.long("up to 300 steps of a large network")
@pytest.mark.parametrize("name", ["retinanet_resnet50", "fasterrcnn_resnet50", "rfcn_resnet50"])
def test_four_radiographs_by_heart(name):
    images, boxes = radiographs(4)
    before, after = learned(name, images, boxes, 300)
    assert before < 0.1
    assert after >= 0.9
