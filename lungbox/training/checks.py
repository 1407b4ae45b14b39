"""What can be known to be wrong with a recipe before its first epoch."""

import inspect
from collections.abc import Iterable
from pathlib import Path

from lungbox import architecture
from lungbox.constants import RSNA_CLASSES, SIIM_CLASSES
from lungbox.datasets.types import Dataset
from lungbox.errors import hint
from lungbox.training.recipe import Recipe, RecipeError
from lungbox.training.teacher import folds_seen

_SOURCES = ("rsna", "siim", "plain", "unlabelled")


def check_network(recipe: Recipe) -> None:
    """Whether there is such a network, and it has such options.

    Raises:
        NetworkError: there is no such network.
        RecipeError: it has no such option.
    """
    network = architecture.describe(recipe.architecture)
    known = [name for name in inspect.signature(network.build).parameters if name != "image_size"]
    _check("options", recipe.options, known)


def check_teacher(recipe: Recipe, unlabelled: Path | None) -> None:
    """Whether there is such a teacher, and it has not seen what the run is scored on.

    Raises:
        RecipeError: it has, or unlabelled images are given without a teacher.
        WeightsError: there is none of that name.
    """
    if recipe.distillation is None:
        if unlabelled:
            raise RecipeError(f"{unlabelled}: only distillation learns from unlabelled images")
        return
    teacher = recipe.distillation.teacher
    if recipe.validation.fold in folds_seen(teacher):
        raise RecipeError(
            f"validation.fold: {teacher}, the teacher, was trained on fold {recipe.validation.fold}"
        )


def check_data(recipe: Recipe, dataset: Dataset) -> None:
    """Whether what the recipe weighs is in the data.

    Raises:
        RecipeError: a data set or class is misspelt, or nothing would be drawn in a stage.
    """
    there = {image.source for image in dataset.images}
    _check("data.sources", recipe.data.sources, _SOURCES)
    _check("data.source_weights", recipe.data.source_weights, _SOURCES)
    categories = {*RSNA_CLASSES, *SIIM_CLASSES, *(image.category for image in dataset.images)}
    _check("data.category_weights", recipe.data.category_weights, categories)
    for number, stage in enumerate(recipe.stages):
        _check(f"stages.{number}.source_weights", stage.source_weights, _SOURCES)
        weights = stage.source_weights or recipe.data.source_weights
        if all(weights.get(source, 1.0) == 0 for source in there):
            raise RecipeError(f"stages.{number}: every data set that is there has a weight of 0")
    drawn = (recipe.data.category_weights.get(image.category, 1.0) for image in dataset.images)
    if not any(drawn):
        raise RecipeError("data.category_weights: every class that is there has a weight of 0")


def _check(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    names = set(known)
    for name in given:
        if name not in names:
            raise RecipeError(f"{where}: {name} is not known; {hint(name, names)}")
