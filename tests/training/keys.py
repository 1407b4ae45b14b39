"""Which test checks which key of a recipe, and what these tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, get_args

import keras
import numpy as np
from pydantic import BaseModel

from lungbox.boxes.geometry import as_boxes
from lungbox.datasets.cache import PreparedImages
from lungbox.datasets.types import Dataset, LabelledRadiograph
from lungbox.training.batches import Batches
from lungbox.training.model import TrainableNetwork, build_trainable, compile_model
from lungbox.training.optimizer import build_optimizer
from lungbox.training.recipe import Recipe
from lungbox.training.validation import ValidationScorer

SIDE = 32
CHECKED: set[str] = set()
Test = TypeVar("Test", bound=Callable)


def checks(*keys: str) -> Callable[[Test], Test]:
    """Marks the test that checks keys, as in `optimizer.ema`."""

    def mark(test: Test) -> Test:
        CHECKED.update(keys)
        return test

    return mark


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a recipe that holds a value, with dots; lists of sections without numbers."""
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is None:
            yield prefix + name
        else:
            yield from keys_of(section, f"{prefix}{name}.")


def _section(annotation) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section, get_args(annotation))), None)


def recipe_of(**changes) -> Recipe:
    """A recipe of the small network, two images in a step, with nothing in it but the changes."""
    values = {
        "name": "keys",
        "architecture": "two_convolutions",
        "encoder_weights": "none",
        "batch_size": 2,
        "data": {"samples_per_epoch": 8},
        "augmentation": {"enabled": False},
        "stages": [{"epochs": 1, "image_size": SIDE}],
    }
    return Recipe.model_validate(values | changes)


def trainee_of(steps: int = 10, **changes) -> TrainableNetwork:
    recipe = recipe_of(**changes)
    return build_trainable(recipe, recipe.stages[0].image_size, steps)


def scoring_of(model: keras.Model, images: PreparedImages, batch_size: int) -> ValidationScorer:
    """What scores any network with both heads, so many images at once."""
    _, side, _, _ = model.input_shape
    stages = [{"epochs": 1, "image_size": side}]
    recipe = recipe_of(architecture="unet_lite0", batch_size=batch_size, stages=stages)
    optimizer = build_optimizer(recipe.optimizer, model, 10, frozenset())
    compile_model(model, recipe.loss, optimizer)
    network = TrainableNetwork(model, model, optimizer)
    return ValidationScorer(network, images, recipe, recipe.stages[0])


def labelled(number: int, size=(300, 400), boxes=((30, 40, 120, 240),), **facts):
    """A radiograph that is higher than wide, its box in the left half from a tenth on downwards."""
    values = {
        "identity": f"image-{number}",
        "path": Path(f"image-{number}.png"),
        "source": "rsna",
        "size": size,
        "boxes": as_boxes(boxes),
        "target": bool(len(boxes)),
        "category": "Lung Opacity" if len(boxes) else "Normal",
        "patient": f"patient-{number}",
        "fold": 1,
    }
    return LabelledRadiograph(**(values | facts))


def cache_of(*images: LabelledRadiograph, side: int = SIDE) -> PreparedImages:
    """Prepared images, each of one gray level, ten times its number: so a batch tells which images
    are in it."""
    pixels = np.stack([np.full((side, side), 10 * n, np.uint8) for n in range(len(images))])
    return PreparedImages(Dataset(images), (), "key", pixels, np.arange(len(images)))


def outputs_of(side: int, heads=("mask", "image")) -> dict[str, tuple[int, ...]]:
    """The shapes of outputs whose maps have so many pixels on a side."""
    shapes = {"mask": (side, side, 2), "image": (1,), "edges": (side, side, 4), "count": (2,)}
    return {head: shapes[head] for head in heads}


def batches_of(
    cache: PreparedImages,
    epoch: int = 0,
    stage: int = 0,
    stride: int = 4,
    heads=("mask", "image"),
    teacher=None,
    **arguments,
):
    """The batches of `recipe_of(**arguments)`, or of `recipe` where it is among them."""
    recipe = arguments.pop("recipe", None) or recipe_of(**arguments)
    chosen = recipe.stages[stage]
    outputs = outputs_of(chosen.image_size // stride, heads)
    return Batches(cache, recipe, chosen, outputs, epoch, teacher)


def drawn(batches) -> list[int]:
    """Which images of `cache_of` are in an epoch's batches, in order."""
    images = np.concatenate([batches[step][0] for step in range(len(batches))])
    return [round(float(image.mean()) / 10) for image in images]
