"""Which test checks which key of a recipe, and what these tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, get_args

import keras
import numpy as np
from pydantic import BaseModel

from lungbox.boxes.geometry import as_boxes
from lungbox.datasets.cache import Cache
from lungbox.datasets.types import Dataset, LabelledRadiograph
from lungbox.training.batches import Batches
from lungbox.training.optimizer import build_optimizer
from lungbox.training.recipe import Recipe
from lungbox.training.trainee import Trainee, _compile, build_trainee
from lungbox.training.validation import Validation

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


def trainee_of(steps: int = 10, **changes) -> Trainee:
    recipe = recipe_of(**changes)
    return build_trainee(recipe, recipe.stages[0].image_size, steps)


def scoring_of(model: keras.Model, images: Cache, batch_size: int) -> Validation:
    """What scores any network with both heads, so many images at once."""
    _, side, _, _ = model.input_shape
    stages = [{"epochs": 1, "image_size": side}]
    recipe = recipe_of(architecture="unet_lite0", batch_size=batch_size, stages=stages)
    optimizer = build_optimizer(recipe.optimizer, model, 10, frozenset())
    _compile(model, optimizer, recipe)
    stride = side // model.output["mask"].shape[1]
    return Validation(Trainee(model, model, optimizer), images, recipe, recipe.stages[0], stride)


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


def cache_of(*images: LabelledRadiograph, side: int = SIDE) -> Cache:
    """Prepared images, each of one gray level, ten times its number: so a batch tells which images
    are in it."""
    pixels = np.stack([np.full((side, side), 10 * n, np.uint8) for n in range(len(images))])
    return Cache(Dataset(images), (), "key", pixels, np.arange(len(images)))


def batches_of(cache: Cache, epoch: int = 0, stage: int = 0, stride: int = 4, **arguments):
    """The batches of `recipe_of(**arguments)`, or of `recipe` where it is among them."""
    recipe = arguments.pop("recipe", None)
    given = {name: arguments.pop(name) for name in ("heads", "teacher") if name in arguments}
    recipe = recipe or recipe_of(**arguments)
    return Batches(cache, recipe, recipe.stages[stage], epoch, stride, **given)


def drawn(batches: Batches) -> list[int]:
    """Which images of `cache_of` are in an epoch's batches, in order."""
    images = np.concatenate([batches[step][0] for step in range(len(batches))])
    return [round(float(image.mean()) / 10) for image in images]
