"""VinBigData's fourteen findings in little: a drawn data set, a detector and a gate for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from lungbox import architecture
from lungbox.architecture.registry import _NETWORKS, network
from lungbox.constants import VINBIGDATA_CLASSES
from lungbox.datasets.types import Dataset
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.weights.entries import Ensemble
from lungbox.weights.formats.safetensors import save_weights
from lungbox.weights.manifest import register, register_ensemble
from tests.tiny import weights_of

SIDE, BOXES = 64, 20
CLASSES = VINBIGDATA_CLASSES[:14]
# Of the classes that are drawn: where their boxes are, as shares of the image, nearly.
PLACES = {
    "Cardiomegaly": (0.35, 0.5, 0.75, 0.85),
    "Aortic enlargement": (0.4, 0.2, 0.55, 0.4),
    "Nodule/Mass": (0.1, 0.3, 0.2, 0.38),
    "Lung Opacity": (0.65, 0.25, 0.9, 0.6),
}


def findings_detector(image_size: int = SIDE) -> keras.Model:
    """Boxes and scores that depend on the image, no image head."""
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    x = layers.Flatten()(layers.AveragePooling2D(8)(inputs / 255.0))
    corner = layers.Reshape((BOXES, 2))(layers.Dense(2 * BOXES, "sigmoid", name="corner")(x))
    side = layers.Reshape((BOXES, 2))(layers.Dense(2 * BOXES, "sigmoid", name="side")(x))
    boxes = layers.Concatenate()([corner * 0.6, corner * 0.6 + side * 0.4])
    scores = layers.Dense(BOXES * len(CLASSES), "sigmoid", name="scores")(x)
    scores = layers.Reshape((BOXES, len(CLASSES)))(scores)
    return keras.Model(inputs, {"boxes": boxes, "scores": scores}, name="findings_detector")


def findings_gate(image_size: int = SIDE) -> keras.Model:
    """The fourteen findings of an image, and an image score."""
    inputs = keras.Input((image_size, image_size, 1), name="radiograph")
    x = layers.Flatten()(layers.AveragePooling2D(8)(inputs / 255.0))
    classes = layers.Dense(len(CLASSES), "sigmoid", name="classes")(x)
    image = layers.Dense(1, "sigmoid", name="image")(x)
    return keras.Model(inputs, {"classes": classes, "image": image}, name="findings_gate")


@contextmanager
def registered() -> Iterator[None]:
    """Both are known by name inside."""
    about = {"encoder": "none", "image_size": SIDE, "class_names": CLASSES}
    network(kind="detection", image_head=False, **about)(findings_detector)
    network(kind="classification", image_head=True, **about)(findings_gate)
    try:
        yield
    finally:
        for build in (findings_detector, findings_gate):
            del _NETWORKS[build.__name__]


def enter_findings(folder: Path, name: str = "findings", **ensemble) -> None:
    """Register random weights of both, and an ensemble of them."""
    for seed, build in enumerate((findings_detector, findings_gate)):
        keras.utils.set_random_seed(seed)
        model = architecture.build(build.__name__, SIDE)
        random = np.random.default_rng(seed)
        for variable in model.weights:
            # So that scores and places differ from image to image.
            variable.assign(random.normal(-0.01, 0.6, variable.shape))
        path = folder / f"{build.__name__}.safetensors"
        save_weights(model, path)
        kind = "detection" if seed == 0 else "classification"
        facts = {"kind": kind, "class_names": CLASSES, "folds": (1, 2, 3, 4)}
        entry = weights_of(path, network=build.__name__, **facts)
        register(build.__name__, entry, Ensemble(members=(build.__name__,)))
    values = {"members": ("findings_detector", "findings_gate"), "gates": ("findings_gate",)}
    register_ensemble(name, Ensemble(**(values | {"min_area": 0.0, "shrink": 0.0} | ensemble)))


def write_vinbigdata(folder: Path, count: int = 30, fold: int = 0) -> Path:
    """A data set in VinBigData's layout, images of 200 x 160 pixels (width x height): two of three
    are abnormal, each finding drawn by one to three readers; the last three are of `fold` + 1."""
    (folder / "train").mkdir(parents=True)
    random = np.random.default_rng(count)
    rows, sizes, folds = [], [], []
    for number in range(count):
        name = f"{number:03d}"
        pixels = random.integers(0, 90, (160, 200), np.uint8)
        chosen = [label for label in PLACES if number % 3 and random.random() < 0.5]
        if number % 3 and not chosen:
            chosen = ["Cardiomegaly"]
        for label in chosen:
            place = np.array(PLACES[label]) + np.tile(random.uniform(-0.05, 0.05, 2), 2)
            x1, y1, x2, y2 = (place * (200, 160, 200, 160)).astype(int)
            pixels[y1:y2, x1:x2] = 120 + pixels[y1:y2, x1:x2] // 2
            for reader in range(random.integers(1, 4)):
                box = np.array([x1, y1, x2, y2]) + random.uniform(-2, 2, 4)
                edges = ",".join(f"{edge:.1f}" for edge in box)
                rows.append(f"{name},{label},{CLASSES.index(label)},R{reader},{edges}")
        if not chosen:
            rows += [f"{name},No finding,14,R{reader},,,," for reader in range(3)]
        sizes.append(f"{name},160,200")
        folds.append(f"{name},{fold if number < count - 3 else fold + 1}")
        Image.fromarray(pixels).save(folder / "train" / f"{name}.png")
    for file, header, lines in (
        ("train.csv", "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max", rows),
        ("train_meta.csv", "image_id,dim0,dim1", sizes),
        ("images.csv", "image_id,fold", folds),
    ):
        (folder / file).write_text("\n".join([header, *lines]) + "\n")
    return folder


@contextmanager
def entered(folder: Path) -> Iterator[Path]:
    """Inside, the user's manifest has the ensembles `findings`, with two gates, and `open`, without
    any; gives the folder of a drawn data set."""
    data = write_vinbigdata(folder / "data")
    with registered(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUNGBOX_HOME", str(folder / "home"))
        patch.setenv("LUNGBOX_CACHE", str(folder / "cache"))
        enter_findings(folder, gate=0.12, upper_gate=0.26)
        enter_findings(folder, "open")
        yield data


def drawn_predictions(truth: Dataset) -> DatasetPredictions:
    """Of a fair detector: most true boxes nearly, some of another class, some of nothing; of a gate
    that is often right; and of a classifier that mostly is."""
    random = np.random.default_rng(7)
    count, most = len(truth), 12
    boxes, scores = np.zeros((count, most, 4), np.float32), np.zeros((count, most, 14), np.float32)
    classes = random.uniform(0, 0.6, (count, 14)).astype(np.float32)
    gate = np.zeros(count, np.float32)
    for row, image in enumerate(truth.images):
        places = list(PLACES.values())
        for slot in range(most):
            if slot < len(image.boxes) and random.random() < 0.8:
                box = image.boxes[slot] / np.float32([*image.size, *image.size])
                number = CLASSES.index(image.labels[slot])
            else:
                box, number = np.array(places[slot % 4]), random.integers(0, 14)
            boxes[row, slot] = np.clip(box + random.normal(0, 0.02, 4), 0, 1)
            scores[row, slot, number] = (
                random.beta(4, 2) if slot < len(image.boxes) else random.beta(1, 3)
            )
        gate[row] = np.clip(random.normal(0.75 if image.target else 0.35, 0.25), 0, 1)
        for label in image.labels:
            classes[row, CLASSES.index(label)] = random.uniform(0.3, 1)
    return DatasetPredictions(truth, None, gate, ((boxes, scores, 1.0),), classes=classes)
