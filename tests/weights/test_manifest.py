"""The manifest: validated, two read as one, and the weights it names are checked."""

import pytest

from lungbox import architecture
from lungbox.datasets.store import Store
from lungbox.radiograph.prepare import VERSIONS
from lungbox.weights.collection import add
from lungbox.weights.entries import Ensemble, Weights
from lungbox.weights.entry import ManifestError
from lungbox.weights.fingerprints import fingerprint, key_of
from lungbox.weights.formats.safetensors import WeightsError, save_weights
from lungbox.weights.manifest import load_manifest, own_path, read_manifest, register, shipped_path
from lungbox.weights.store import fetch, sha256

# Begins as a safetensors file does.
_BYTES = (16).to_bytes(8, "little") + b'{"a": [1, 2, 3]}'


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "some.safetensors"
    path.write_bytes(_BYTES)
    return Weights(
        architecture="unet_lite0",
        image_size=64,
        sha256=sha256(path),
        bytes=len(_BYTES),
        sources=(f"file:{path}",),
        folds=(1, 2),
    )


def test_the_shipped_manifest_is_in_order():
    manifest = read_manifest(shipped_path())
    assert "default" in manifest.ensembles
    for name in manifest.ensemble("default").members:
        assert fetch(name, manifest.weights[name]).is_file()


def test_what_is_entered_is_found(own_home, weights):
    register("mine", weights, Ensemble(members=("mine",), rule="threshold", threshold=0.3))
    manifest = load_manifest()
    assert manifest.weights["mine"] == weights
    assert manifest.ensemble("mine").point.threshold == 0.3
    assert "default" in manifest.ensembles
    register("other", weights, Ensemble(members=("other", "other"), weights=(1, 3)))
    assert set(read_manifest(own_path()).ensembles) == {"mine", "other"}
    assert load_manifest().ensemble("other").normalized_weights == (0.25, 0.75)


def test_lungboxs_own_names_cannot_be_taken(own_home, weights):
    with pytest.raises(ManifestError, match="default is a name of Lungbox's own"):
        register("default", weights, Ensemble(members=("default",)))


def test_sources_are_beside_their_manifest(tmp_path):
    path = tmp_path / "manifest.toml"
    path.write_text(
        f'[weights.a]\narchitecture = "unet_lite0"\nimage_size = 64\nsha256 = "{"0" * 64}"\n'
        'bytes = 1\nsources = ["file:a.safetensors", "https://example.org/a"]\n'
    )
    sources = read_manifest(path).weights["a"].sources
    assert sources == (f"file:{tmp_path / 'a.safetensors'}", "https://example.org/a")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("[weights.a]\nsize = 1\n", "weights.a"),
        ("[ensembles.a]\nmembers = []\n", "ensembles.a.members"),
        ('[ensembles.a]\nmembers = ["b"]\nweights = [1, 2]\n', "2 weights for 1 members"),
        ('[ensembles.a]\nmembers = ["b"]\nshrink = 0.5\n', "ensembles.a.shrink"),
        ("not toml", "not a TOML file"),
    ],
)
def test_faults_are_named(tmp_path, content, fault):
    path = tmp_path / "manifest.toml"
    path.write_text(content)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert fault in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_ensemble_of_weights_that_are_nowhere(own_home, weights):
    register("mine", weights, Ensemble(members=("mine", "lite0")))  # one of Lungbox's own is fine
    assert load_manifest().ensemble("mine").members == ("mine", "lite0")
    register("mine", weights, Ensemble(members=("mine", "absent")))
    with pytest.raises(ManifestError, match="mine has a member absent"):
        load_manifest()


def test_an_unknown_ensemble_is_answered_with_the_nearest():
    with pytest.raises(ManifestError, match="did you mean default"):
        load_manifest().ensemble("defualt")


def test_a_changed_file_is_refused(weights, tmp_path):
    (tmp_path / "some.safetensors").write_bytes(_BYTES.replace(b"3", b"4"))
    with pytest.raises(WeightsError, match="SHA-256 differs"):
        fetch("some", weights)
    (tmp_path / "some.safetensors").write_bytes(_BYTES[:-1])
    with pytest.raises(WeightsError, match="23 bytes instead of 24"):
        fetch("some", weights)
    (tmp_path / "some.safetensors").write_bytes(b"<html>Sorry".ljust(len(_BYTES)))
    with pytest.raises(WeightsError, match="web page"):
        fetch("some", weights)
    (tmp_path / "some.safetensors").unlink()
    with pytest.raises(WeightsError, match="no such file"):
        fetch("some", weights)


def test_unpublished_weights_say_how_to_train_them(weights):
    unpublished = weights.model_copy(update={"sources": (), "recipe": "recipes/four.toml"})
    with pytest.raises(WeightsError, match=r"python -m lungbox train recipes/four\.toml"):
        fetch("four", unpublished)


def test_trained_weights_take_the_place_of_unpublished_ones(own_home, tmp_path):
    name = "four_unet_densenet121"
    save_weights(architecture.build("unet_densenet121", 128), tmp_path / "some.safetensors")
    with pytest.raises(WeightsError, match="--set architecture=unet_densenet121"):
        fetch(name, load_manifest().weights[name])
    add(name, tmp_path / "some.safetensors")
    assert fetch(name, load_manifest().weights[name]).is_file()


@pytest.mark.parametrize("name", ["../esc", ".hidden", "a/b", "a b", "", "a\n"])
def test_what_cannot_be_a_name(own_home, weights, tmp_path, name):
    with pytest.raises(ManifestError, match="cannot be the name of an entry"):
        register(name, weights, Ensemble(members=(name,)))
    path = tmp_path / "manifest.toml"
    quoted = name.replace("\n", "\\n")
    path.write_text(f'[ensembles."{quoted}"]\nmembers = ["lite0"]\n')
    with pytest.raises(ManifestError, match="a name is letters, digits"):
        read_manifest(path)
    path.write_text(f'[weights."{quoted}"]\narchitecture = "unet_lite0"\nimage_size = 64\n')
    with pytest.raises(ManifestError, match="a name is letters, digits"):
        read_manifest(path)


def test_a_bundle_that_is_not_there(own_home, monkeypatch, tmp_path):
    monkeypatch.setenv("LUNGBOX_BUNDLE", str(tmp_path / "absent"))
    with pytest.raises(ManifestError, match=r"LUNGBOX_BUNDLE names .*absent"):
        load_manifest()


def test_all_that_is_not_published_is_explained_at_once(own_home, tmp_path, monkeypatch):
    from lungbox.inference.predictor import open_ensemble

    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError) as caught:
        open_ensemble("four", 1)
    said = str(caught.value)
    for network in ("unet_resnet152", "unet_densenet121", "unet_vgg19_attention", "aspp_resnet152"):
        assert said.count(f"recipes/four.toml --set architecture={network} --data DIR") == 1
        entering = f"weights add four_{network} runs/four-{network}/weights.safetensors"
        assert said.count(f"python -m lungbox {entering}") == 1


WEIGHTS = Weights(architecture="unet_lite0", image_size=64)


def test_a_preparation_that_computes_something_else_voids_what_was_kept(monkeypatch, tmp_path):
    members = [fingerprint("a" * 64, WEIGHTS, 1.0)]

    def keys():
        found = [key_of(members, preparation, flip=False) for preparation in VERSIONS]
        return found + [Store(tmp_path, 64, preparation).folder for preparation in VERSIONS]

    before = keys()
    monkeypatch.setitem(VERSIONS, "nearest", VERSIONS["nearest"] + 1)
    same = [one == other for one, other in zip(before, keys(), strict=True)]
    assert same == [preparation != "nearest" for preparation in VERSIONS] * 2


def test_the_default_has_operating_points_by_name_and_a_calibration():
    """`rsna` is the point that is used without a name."""
    manifest = load_manifest()
    default = manifest.ensemble("default")
    points = default.operating_points
    assert list(points) == ["rsna", "balanced", "sensitive"]
    assert points["rsna"].point == default.point
    gates = [point.gate for point in points.values()]
    assert gates == sorted(gates, reverse=True)
    figures = [point.figures for point in points.values()]
    sensitivity = [one.sensitivity for one in figures]
    assert sensitivity == sorted(sensitivity)
    youden = [one.sensitivity + one.specificity for one in figures]
    assert youden[1] > youden[0]
    assert default.calibration.prevalence == pytest.approx(0.2253, abs=1e-4)
    seen = set().union(*(manifest.training_folds(name) for name in default.members))
    assert seen.isdisjoint(default.calibration.folds)
