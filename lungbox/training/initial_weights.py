"""Weights of the complete network that a run begins with."""

from pathlib import Path

from lungbox.training.recipe import Recipe, RecipeError
from lungbox.weights.manifest import load_manifest
from lungbox.weights.store import fetch, sha256


def initial_file(recipe: Recipe) -> Path:
    """The file of a recipe's `initial_weights`, which name it or an entry of the manifest.

    Raises:
        RecipeError: there is no such file.
        ManifestError: no weights are called so.
        WeightsError: they could not be downloaded.
    """
    given = recipe.initial_weights
    if not given.endswith(".safetensors"):
        return fetch(given, load_manifest().file(given))
    if not Path(given).is_file():
        raise RecipeError(f"initial_weights: {given}: there is no such file")
    return Path(given)


def initial_folds(recipe: Recipe) -> frozenset[int] | None:
    """The folds that a recipe's initial weights were trained on: none where it has none, None where
    the manifest does not know the file."""
    if not recipe.initial_weights:
        return frozenset()
    manifest, digest = load_manifest(), sha256(initial_file(recipe))
    same = [name for name, weights in manifest.weights.items() if weights.sha256 == digest]
    return manifest.training_folds(same[0]) if same else None


def check_initial_weights(recipe: Recipe) -> None:
    """Check that the initial weights exist and were not trained on the validation fold.

    Raises:
        RecipeError: they do not exist, were trained on that fold, or nothing is known of it.
    """
    given, fold = recipe.initial_weights, recipe.validation.fold
    seen = initial_folds(recipe)
    if fold is None:
        return
    if seen is None:
        raise RecipeError(
            f"validation.fold: the training folds of the initial weights {given} are unknown; "
            "register them with `lungbox weights add`, or train without validation"
        )
    if fold in seen:
        raise RecipeError(
            f"validation.fold: the initial weights {given} were trained on fold {fold}"
        )
