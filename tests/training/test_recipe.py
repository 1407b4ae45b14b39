"""Recipes: the shipped ones are in order, and faults are named."""

import pytest

from lungbox.training.recipe import RecipeError, load_recipe
from tests.conftest import ROOT

MINIMAL = """
name = "x"
architecture = "unet_lite0"
batch_size = 4
[data]
samples_per_epoch = 8
[[stages]]
epochs = 2
image_size = 64
"""


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.name)
def test_shipped_recipes(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.steps_per_epoch > 0
    assert 0 not in recipe.data.folds


def test_what_follows(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL + "[[stages]]\nepochs = 3\nimage_size = 96\n")
    recipe = load_recipe(path)
    assert (recipe.epochs, recipe.image_size, recipe.steps_per_epoch) == (5, 96, 2)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("epochs = 2", "epoch = 2"), "stages.0"),
        (("image_size = 64", "image_size = 50"), "stages.0.image_size"),
        (("batch_size = 4", 'batch_size = "many"'), "batch_size"),
        (("[data]", "[data"), "not a TOML file"),
    ],
)
def test_faults_are_named(tmp_path, change, fault):
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL.replace(*change))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert fault in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe(tmp_path):
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "none.toml")
