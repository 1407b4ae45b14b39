"""Random boxes and outputs of a detector, and the losses that other backends compute, too."""

import keras
import numpy as np

from lungbox.architecture.detection.anchors import Anchors
from lungbox.architecture.detection.losses import AnchorLoss, RoiLoss

LOSSES = {
    "giou": AnchorLoss(),
    "smooth_l1": AnchorLoss(0.4, 1.5, "smooth_l1", 2.0),
    "any class": AnchorLoss(any_class=True),
    "roi": RoiLoss(),
    "roi, smooth_l1": RoiLoss("smooth_l1", 0.5),
}


def random_boxes(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """`(*shape, 4)` float32 in 0-1, wider or higher than a twentieth."""
    centres = random.uniform(0.1, 0.9, (*shape, 2))
    half = random.uniform(0.025, 0.3, (*shape, 2))
    return np.concatenate([centres - half, centres + half], axis=-1).clip(0, 1).astype(np.float32)


def random_targets(random: np.random.Generator, classes: int = 3, rows: int = 5) -> np.ndarray:
    """`(4, rows, 5)`: 0, 1, 2 and `rows` boxes, the rest padding."""
    targets = np.full((4, rows, 5), -1, np.float32)
    for image, count in enumerate((0, 1, 2, rows)):
        targets[image, :count, :4] = random_boxes(random, (count,))
        targets[image, :count, 4] = random.integers(0, classes, count)
    return targets


def random_outputs(random: np.random.Generator, classes: int = 3) -> np.ndarray:
    """`(4, A, 4 + classes + 4)` of the anchors of 64 pixels."""
    anchors = Anchors(2.0, 2, (0.5, 1.0)).boxes(64)
    logits = random.normal(-1, 2, (4, len(anchors), classes))
    deltas = random.normal(0, 0.3, (4, len(anchors), 4))
    boxes = np.broadcast_to(anchors, (4, *anchors.shape))
    return np.concatenate([boxes, logits, deltas], axis=-1).astype(np.float32)


def losses_of(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, np.ndarray]:
    """Of each of `LOSSES`, the losses of the images."""
    found = {}
    for name, loss in LOSSES.items():
        outputs = np.delete(y_pred, [5, 6], axis=-1) if name == "any class" else y_pred
        targets = y_true
        if name.startswith("roi"):
            targets = y_true.copy()  # one of the logits is the background's
            targets[..., 4] = np.minimum(targets[..., 4], 1)
        found[name] = keras.ops.convert_to_numpy(loss.call(targets, keras.ops.array(outputs)))
    return found
