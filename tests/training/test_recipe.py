"""Recipes: the shipped ones are in order, and faults are named."""

import re
from pathlib import Path

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
    assert recipe.label.partition("-")[0] == path.stem
    assert recipe.steps_per_epoch(images=100) > 0
    assert 0 not in recipe.data.folds


def test_what_follows(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL + "[[stages]]\nepochs = 3\nimage_size = 96\n")
    recipe = load_recipe(path)
    assert (recipe.epochs, recipe.image_size, recipe.steps_per_epoch(images=100)) == (5, 96, 2)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("epochs = 2", "epoch = 2"), "stages.0"),
        (("epochs = 2", "epoch = 2"), "did you mean epochs"),
        (("batch_size = 4", "batch_sise = 4"), "batch_sise: no such key; did you mean"),
        (("[[stages]]", "[optimizer]\nlearning_rat = 1\n[[stages]]"), "did you mean learning_rate"),
        (("[[stages]]", "[validation]\nfold = 2\n[[stages]]"), "validation.fold 2 is among"),
        (("[[stages]]", "[validation]\npatience = 2\n[[stages]]"), "patience needs"),
        (("[[stages]]", "[distillation]\nsharre = 1\nteacher = 'x'\n[[stages]]"), "mean share"),
        (('name = "x"', 'name = "{arch}-x"'), "is no file name"),
        (("[[stages]]", "[loss]\nedges = 1\n[distillation]\nteacher = 'x'\n[[stages]]"), "edges"),
        (("samples_per_epoch = 8", ""), "samples_per_epoch is missing"),
        (("samples_per_epoch = 8", "samples_per_epoch = 8\norder = 'fixed'"), "a fixed order"),
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


def test_keys_are_set_on_top(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL.replace('"x"', '"x-{architecture}"'))
    changes = ["architecture=aspp_resnet152", "optimizer.clip_norm = 1", "data.folds=[0, 2]"]
    recipe = load_recipe(path, [*changes, "encoder_weights=some/encoder.h5"])
    assert recipe.label == "x-aspp_resnet152"
    assert recipe.optimizer.clip_norm == 1
    assert recipe.data.folds == (0, 2)
    assert recipe.encoder_name == ""


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("batch_size", "give KEY=VALUE"),
        ("batch_size=few", "batch_size"),
        ("optimiser.ema=0", "optimiser"),
        ("name.first=a", "name has no keys"),
        ("encoder_weights=a name", "encoder_weights"),
        ("name=../outside", "name"),
        ("name=.hidden", "name"),
        ("data.folds=[]", "data.folds"),
        ("data.source_weights.rsna=-1", "data.source_weights.rsna"),
        ("augmentation.scale=[1.2, 0.8]", "augmentation.scale"),
    ],
)
def test_what_cannot_be_set_is_named(tmp_path, change, fault):
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL)
    with pytest.raises(RecipeError, match=fault):
        load_recipe(path, [change])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            "stages.0.epochs=1000000000000000000000",
            "stages.0.epochs: .* less than or equal to 10000",
        ),
        ("stages.0.image_size=1048576", "stages.0.image_size: .* less than or equal to 4096"),
        ("batch_size=1000000", "batch_size: .* less than or equal to 4096"),
        ("data.samples_per_epoch=1000000000000", "data.samples_per_epoch: .* 10000000"),
        ("validation.every=1000000000000", "validation.every"),
        ("seed=-1", "seed: .* greater than or equal to 0"),
        ("seed=4294967296", "seed: .* less than 4294967296"),
        ("optimizer.learning_rate=inf", "optimizer.learning_rate: .* finite number"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate: .* finite number"),
        ("optimizer.learning_rate=1e400", "optimizer.learning_rate: .* finite number"),
        ("optimizer.weight_decay=1e9", "optimizer.weight_decay"),
        ("optimizer.clip_norm=inf", "optimizer.clip_norm: .* finite number"),
        ("loss.bce=inf", "loss.bce: .* finite number"),
        ("loss.gamma=nan", "loss.gamma: .* finite number"),
        ("options.dropout=nan", "options.dropout: .* finite number"),
        ("data.source_weights.rsna=inf", "data.source_weights.rsna: .* finite number"),
        ("augmentation.scale=[1.0, inf]", "augmentation.scale"),
        ("augmentation.gamma=[1e-9, 1.0]", "augmentation.gamma: .* from 0.01 to 100"),
        ("augmentation.rotate=1e9", "augmentation.rotate: .* less than or equal to 180"),
        ("distillation={teacher='default', share=nan}", "distillation.share: .* finite number"),
        (f"name={'x' * 300}", "name: .* at most 100 characters"),
        (f"batch_size={'9' * 5000}", "batch_size"),
    ],
)
def test_numbers_beyond_all_measure_are_named(tmp_path, change, fault):
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL)
    with pytest.raises(RecipeError, match=fault) as caught:
        load_recipe(path, [change])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", [f"batch_size = {'9' * 5000}", f"a = {'[' * 5000}"])
def test_toml_that_python_cannot_read(tmp_path, text):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match="not a TOML file"):
        load_recipe(path)


def test_an_item_of_a_list_is_set_by_its_number(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL)
    assert load_recipe(path, ["stages.0.epochs=7"]).epochs == 7
    with pytest.raises(RecipeError, match="is a list"):
        load_recipe(path, ["stages.epochs=7"])


@pytest.mark.parametrize("name", ["lite0", "lite0.toml", "recipes/lite0.toml"])
def test_lungboxs_own_are_found_by_name_from_anywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert load_recipe(Path(name)) == load_recipe(ROOT / "recipes/lite0.toml")
    (tmp_path / name).mkdir(parents=True)
    assert load_recipe(Path(name)) == load_recipe(ROOT / "recipes/lite0.toml")
    (tmp_path / name).rmdir()
    (tmp_path / name).write_text(MINIMAL)
    assert load_recipe(Path(name)).label == "x"  # a file that is there goes first


@pytest.mark.parametrize("name", ["runs/lite0.toml", "../recipes/lite0.toml", "lite1"])
def test_other_files_are_not_taken_for_them(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match="no such recipe; of Lungbox's own, did you mean"):
        load_recipe(Path(name))


def test_no_message_names_a_script_that_is_only_in_a_clone():
    for path in (ROOT / "lungbox").rglob("*.py"):
        said = re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"python \w+\.py", said), path
