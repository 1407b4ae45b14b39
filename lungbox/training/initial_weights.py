"""Weights that a run begins with: of the complete network, or of its encoder."""

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


def encoder_file(recipe: Recipe) -> Path | None:
    """The file with the encoder's initial weights; None where these are `imagenet` or `none`.

    Raises:
        ManifestError: no weights are called so.
        WeightsError: they could not be downloaded.
    """
    if recipe.encoder_weights in ("imagenet", "none"):
        return None
    if not recipe.encoder_name:
        return Path(recipe.encoder_weights)
    name = _weights_name(recipe.encoder_name)
    return fetch(name, load_manifest().file(name))


def _weights_name(name: str) -> str:
    """The name of a weight file, also by that of an ensemble of it alone."""
    manifest = load_manifest()
    members = manifest.ensembles[name].members if name in manifest.ensembles else ()
    if len(members) > 1 and name not in manifest.weights:
        raise RecipeError(
            f"encoder_weights: the ensemble {name} has several members; give one of "
            f"{', '.join(members)}"
        )
    return members[0] if len(members) == 1 and name not in manifest.weights else name


def initial_folds(recipe: Recipe) -> frozenset[int] | None:
    """The folds that a recipe's initial weights were trained on: none where it has none, None where
    the manifest does not know the file. Files of encoders count as trained on none."""
    manifest = load_manifest()
    encoder = frozenset[int]()
    if recipe.encoder_name:
        known = manifest.training_folds(_weights_name(recipe.encoder_name))
        if known is None:
            return None
        encoder = known
    if not recipe.initial_weights:
        return encoder
    digest = sha256(initial_file(recipe))
    same = [name for name, weights in manifest.weights.items() if weights.sha256 == digest]
    network = manifest.training_folds(same[0]) if same else None
    return None if network is None else network | encoder


def check_initial_weights(recipe: Recipe) -> None:
    """Check that the initial weights exist and were not trained on the validation fold.

    Raises:
        RecipeError: they do not exist, were trained on that fold, or nothing is known of it.
    """
    given, fold = recipe.initial_weights or recipe.encoder_name, recipe.validation.fold
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
