"""`lungbox weights`: every command as a user types it."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lungbox import architecture
from lungbox.cli import main
from lungbox.weights.entries import Ensemble, Manifest, PrecisionCheck, Precisions
from lungbox.weights.formats.safetensors import load_weights
from lungbox.weights.manifest import (
    load_manifest,
    own_path,
    read_manifest,
    register_precisions,
    write_manifest,
)
from lungbox.weights.store import cached, sha256
from tests import reference
from tests.conftest import ROOT
from tests.tiny import enter_tiny, save_tiny

NAME = "reference_unet_vgg19_attention"
NETWORK = "unet_vgg19_attention_reference"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A Keras 2 weight file of one of the published networks."""
    return reference.write_h5(NETWORK, tmp_path_factory.mktemp("h5") / "vgg19.h5", first=5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny") / "tiny.safetensors", 1, "unet_lite0")


@pytest.fixture(autouse=True)
def _own(own_home, tmp_path, monkeypatch):
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LUNGBOX_BUNDLE", raising=False)


def weights(capfd, *arguments: object) -> tuple[int, str]:
    """Exit code and output of `lungbox weights ARGUMENTS`."""
    with pytest.raises(SystemExit) as ended:
        main.main(["weights", *map(str, arguments)])
    said = capfd.readouterr()
    return int(ended.value.code or 0), said.out + said.err


def test_list_says_what_is_here(capfd):
    code, said = weights(capfd, "list")
    assert code == 0
    rows = {words[0]: line for line in said.splitlines() if (words := line.split())}
    assert rows["lite0"].split()[-1] == "here"
    assert "downloaded" in said
    assert "published" in said


def test_list_cuts_no_name_on_a_narrow_terminal(capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = weights(capfd, "list")[1]
    for name in load_manifest().weights:
        assert name in said
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    said = re.sub(r"\x1b\[[\d;]*m", "", weights(capfd, "list")[1])
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= 80


def test_verify_finds_a_file_that_has_changed(capfd, tiny):
    assert weights(capfd, "add", "mine", tiny, "--architecture", "unet_lite0")[0] == 0
    assert weights(capfd, "verify", "mine") == (0, "mine: here\n")
    (source,) = load_manifest().file("mine").sources
    path = Path(source.removeprefix("file:"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, said = weights(capfd, "verify", "mine")
    assert code == 2
    assert "mine: " in said
    assert "here" not in said
    code, said = weights(capfd, "verify", "no-such")
    assert code == 2
    assert "no-such" in said


def test_add_keeps_a_copy_and_an_ensemble_of_its_own(capfd, tiny, tmp_path):
    given = tmp_path / "given.safetensors"
    given.write_bytes(tiny.read_bytes())
    code, _ = weights(
        capfd, "add", "mine", given, "--architecture", "unet_lite0", "--image-size", 64
    )
    assert code == 0
    given.unlink()
    manifest = load_manifest()
    assert manifest.ensemble("mine").members == ("mine",)
    assert manifest.ensemble("mine").preparation == "equalised"
    assert manifest.ensemble("mine").compatibility == "lungbox"
    assert manifest.file("mine").image_size == 64
    assert manifest.file("mine").sha256 == sha256(tiny)
    assert weights(capfd, "fetch", "mine")[0] == 0


def test_weights_of_the_references_networks_get_its_preparation_and_box_rule(capfd, published):
    """Added or converted, as those of the ensemble `reference`; those of other networks do not."""
    assert weights(capfd, "add", "added", published, "--architecture", NETWORK)[0] == 0
    assert weights(capfd, "convert", published, "--architecture", NETWORK)[0] == 0
    manifest = load_manifest()
    published_rule = manifest.ensemble("reference")
    for name in ("added", "vgg19"):
        ensemble = manifest.ensemble(name)
        assert ensemble.preparation == "nearest"
        assert ensemble.point == replace(published_rule.point, min_area=25_000 / 1024**2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("new", "tiny"), "name its network with --architecture"),
        (("new", "absent", "--architecture", "unet_lite0"), "there is no such weight file"),
        (("new", "page", "--architecture", "unet_lite0"), "web page"),
        (("new", "tiny", "--architecture", "unet_lit0"), "did you mean unet_lite0"),
        ((NAME, "page"), "web page"),
        (("lite0", "tiny"), "bytes instead of"),
        (("lite0", "tiny", "--replace"), "bytes instead of"),
        (("new", "tiny", "--architecture", "unet_densenet121"), "of unet_densenet121"),
        (("new", "cut", "--architecture", "unet_lite0"), "not a readable safetensors"),
        ((NAME, "tiny"), "not an HDF5 file"),
        ((NAME, "keras"), "layers with weights"),
        (("new", "keras", "--architecture", "unet_lite0"), "layers with weights"),
        (("new", "tiny", "--architecture", "unet_lite0", "--image-size", 100), "a multiple of 32"),
        (("new", "tiny", "--architecture", "unet_lite0", "--image-size", 0), "a multiple of 32"),
        (("new", "tiny", "--architecture", "unet_lite0", "--image-size", -32), "at least 32"),
        (("../../esc", "tiny", "--architecture", "unet_lite0"), "cannot be the name"),
        (("default", "tiny", "--architecture", "unet_lite0"), "a name of Lungbox's own"),
        (("default", "tiny", "--architecture", "unet_lite0", "--replace"), "a name of Lungbox's"),
    ],
)
def test_add_refuses(capfd, tiny, own_home, tmp_path, arguments, sentence):
    page = tmp_path / "page.h5"
    page.write_bytes(b"<!DOCTYPE html><html>Sign in</html>")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny.read_bytes()[:-100])
    keras_file = _small_h5(tmp_path / "keras.h5")
    files = {"tiny": tiny, "page": page, "absent": tmp_path / "absent.h5"}
    files |= {"cut": cut, "keras": keras_file}
    name, file, *rest = arguments
    code, said = weights(capfd, "add", name, files[file], *rest)
    assert code == 2
    assert sentence in said
    assert "Traceback" not in said
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name[0] != "."]
    assert set(left) == {page, cut, keras_file}


def test_weights_that_are_not_finite_are_refused(capfd, tiny, published, own_home, tmp_path):
    """In either form, new or fetched by hand for a known entry, added or converted."""
    with_nan = tmp_path / "nan.safetensors"
    tensors = load_file(tiny)
    tensors["mask_logits/bias"][1] = np.nan
    save_file(tensors, with_nan)
    with_infinity = tmp_path / "infinity.h5"
    with_infinity.write_bytes(published.read_bytes())
    with h5py.File(with_infinity, "r+") as file:
        array = _first_array(file)
        array[(0,) * array.ndim] = np.inf
        named = array.name.rpartition("/")[2]
    for command, fault in (
        (("add", "mine", with_nan, "--architecture", "unet_lite0"), "mask_logits/bias"),
        (("add", NAME, with_infinity), named),
        (("add", "mine", with_infinity, "--architecture", NETWORK), named),
        (("convert", with_infinity, "--architecture", NETWORK), named),
    ):
        code, said = weights(capfd, *command)
        assert code == 2
        (line,) = said.strip().splitlines()
        file = next(part for part in command if isinstance(part, Path))
        assert str(file) in line
        assert fault in line
        assert "holds NaN or infinity in 1 of " in line
    assert not own_path().exists()
    assert not list(own_home.rglob("*.safetensors"))


def _small_h5(path):
    """Whole, and of no network of Lungbox's."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"dense"]
        file.create_group("dense").attrs["weight_names"] = [b"kernel:0"]
        file["dense/kernel:0"] = np.zeros((4, 4), "float32")
    return path


def test_a_wrong_pin_is_undone(capfd, published, tmp_path):
    other = tmp_path / "other.h5"
    other.write_bytes(published.read_bytes())
    with h5py.File(other, "r+") as file:
        _first_array(file)[...] = 0
    assert weights(capfd, "add", NAME, other)[0] == 0
    code, said = weights(capfd, "add", NAME, published)
    assert code == 2
    assert f"python -m lungbox weights remove {NAME} first, or add with --replace" in said
    assert weights(capfd, "add", NAME, published, "--replace")[0] == 0
    assert sha256(cached(NAME, load_manifest().file(NAME))) == sha256(published)
    code, said = weights(capfd, "remove", NAME)
    assert (code, said) == (0, f"{NAME}: 1 file removed, pinned hash removed\n")
    assert weights(capfd, "add", NAME, other)[0] == 0


def _first_array(file):
    found = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return found[0]


def test_an_entry_of_ones_own_is_replaced_only_when_asked(capfd, tiny, tmp_path):
    other = save_tiny(tmp_path / "other.safetensors", 2, "unet_lite0")
    weights(capfd, "add", "mine", tiny, "--architecture", "unet_lite0", "--image-size", 64)
    code, said = weights(capfd, "add", "mine", other)
    assert code == 2
    assert "replace it with --replace" in said
    assert load_manifest().file("mine").sha256 == sha256(tiny)
    assert weights(capfd, "add", "mine", other, "--replace")[0] == 0
    entry = load_manifest().file("mine")
    assert (entry.sha256, entry.image_size) == (sha256(other), 64)
    assert weights(capfd, "verify", "mine") == (0, "mine: here\n")


def test_an_ensemble_of_ones_own_is_not_overwritten(capfd, tiny):
    register_ensemble("pair", Ensemble(members=("lite0", "lite0")))
    code, said = weights(capfd, "add", "pair", tiny, "--architecture", "unet_lite0")
    assert code == 2
    assert "pair is an ensemble of your own" in said
    assert load_manifest().ensemble("pair").members == ("lite0", "lite0")


def register_ensemble(name: str, ensemble: Ensemble) -> None:
    own = read_manifest(own_path())
    write_manifest(Manifest(weights=own.weights, ensembles=own.ensembles | {name: ensemble}))


def test_a_published_file_fetched_by_hand_is_pinned(capfd, published, tmp_path):
    assert weights(capfd, "add", NAME, published)[0] == 0
    assert cached(NAME, load_manifest().file(NAME)).is_file()
    code, said = weights(capfd, "verify", NAME)
    assert (code, said) == (0, f"{NAME}: here\n")
    other = reference.write_h5("aspp_resnet152_reference", tmp_path / "other.h5")
    code, said = weights(capfd, "add", NAME, other)
    assert code == 2
    assert str(other) in said


def test_convert_gives_the_same_network(capfd, published):
    code, said = weights(capfd, "convert", published, "--architecture", NETWORK)
    assert code == 0
    assert "--ensemble vgg19" in said
    entry = load_manifest().file("vgg19")
    assert entry.format == "safetensors"
    network = architecture.build(NETWORK)
    load_weights(network, Path(entry.sources[0].removeprefix("file:")))
    with np.load(reference.FOLDER / f"{NETWORK}.npz") as kept:
        images, expected = (kept["x"][..., :1] + 1) * 127.5, kept["y"]
    mask = keras.ops.convert_to_numpy(network(images, training=False)["mask"])
    assert np.abs(mask - expected).max() < 1e-4


def test_convert_replaces_only_when_asked(capfd, published, own_home):
    arguments = ("convert", published, "--architecture", NETWORK, "--name")
    assert weights(capfd, *arguments, "mine")[0] == 0
    code, said = weights(capfd, *arguments, "mine")
    assert code == 2
    assert "--replace" in said
    assert weights(capfd, *arguments, "mine", "--replace")[0] == 0
    code, said = weights(capfd, *arguments, "../esc")
    assert code == 2
    assert "cannot be the name" in said
    assert not list(own_home.parent.rglob("esc*"))


def test_convert_a_file_that_is_not_there(capfd, tmp_path):
    code, said = weights(capfd, "convert", tmp_path / "no.h5", "--architecture", NETWORK)
    assert code == 2
    assert "there is no such weight file" in said


def test_convert_names_what_does_not_fit(capfd, published):
    code, said = weights(capfd, "convert", published, "--architecture", "aspp_resnet152_reference")
    assert code == 2
    assert "Traceback" not in said
    assert "vgg19" in said
    assert not own_path().is_file()


def test_remove(capfd, tiny, published):
    weights(capfd, "add", "mine", tiny, "--architecture", "unet_lite0")
    assert weights(capfd, "remove", "mine") == (0, "mine: entry removed, 1 file removed\n")
    assert "mine" not in load_manifest().weights
    assert "mine" not in load_manifest().ensembles
    weights(capfd, "add", NAME, published)
    assert weights(capfd, "remove", NAME)[1].startswith(f"{NAME}: 1 file removed")
    assert NAME in load_manifest().weights
    for name in ("lite0", "default"):
        said = weights(capfd, "remove", name)[1]
        assert said == f"{name}: ships with Lungbox, nothing to remove\n"
    assert "here" in weights(capfd, "verify", "lite0")[1]


def test_remove_an_ensemble(capfd, tiny):
    weights(capfd, "add", "mine", tiny, "--architecture", "unet_lite0")
    register_ensemble("pair", Ensemble(members=("mine", "lite0")))
    checked = PrecisionCheck(metric_change=0.0, same_count=1.0, images=364)
    register_precisions("0" * 24, Precisions(ensemble="mine", bfloat16=checked))
    code, said = weights(capfd, "remove", "mine")
    assert code == 2
    assert "python -m lungbox weights remove pair" in said
    assert load_manifest().precisions  # nothing went
    assert weights(capfd, "remove", "pair") == (0, "pair: entry removed\n")
    assert "pair" not in load_manifest().ensembles
    assert "mine" in load_manifest().weights


def test_remove_an_ensemble_whose_member_is_nowhere(capfd):
    register_ensemble("pair", Ensemble(members=("absent", "lite0")))
    code, said = weights(capfd, "list")
    assert code == 2
    assert "python -m lungbox weights remove pair" in said
    assert weights(capfd, "remove", "pair")[0] == 0
    assert weights(capfd, "list")[0] == 0


def test_what_was_trained_stays_when_its_entry_goes(capfd, tmp_path):
    path = enter_tiny(tmp_path / "runs/tiny", "trained", network="unet_lite0")
    said = weights(capfd, "remove", "trained")[1]
    assert said == f"trained: entry removed, {path} stays\n"
    assert path.is_file()
    assert "trained" not in load_manifest().weights


def test_fetch_goes_through_all(capfd, tmp_path, monkeypatch):
    monkeypatch.setenv("LUNGBOX_OFFLINE", "1")
    path = enter_tiny(tmp_path / "runs/tiny", "zz", network="unet_lite0")
    code, said = weights(capfd, "fetch")
    assert code == 2
    assert f"zz: {path}" in said
    for name in ("reference_unet_resnet152", "reference_aspp_resnet152"):
        assert f"the weights {name} are unavailable" in said
        assert f"register it: python -m lungbox weights add {name} FILE" in said


def test_no_sentence_names_a_command_that_is_not_installed():
    """There is no `lungbox` script where the README's steps were followed."""
    files = [*(ROOT / "lungbox/weights").rglob("*.py"), ROOT / "lungbox/cli/weights.py"]
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"(?<!python -m )lungbox weights \w+", text), path


def test_weights_that_are_not_published_say_how_to_train_them(capfd):
    code, said = weights(capfd, "fetch", "four")
    assert code == 2
    assert "python -m lungbox train recipes/four.toml --set architecture=unet_resnet152" in said


def test_a_bundle_carries_everything(capfd, tiny, published, tmp_path, monkeypatch):
    weights(capfd, "add", "mine", tiny, "--architecture", "unet_lite0", "--image-size", 64)
    weights(capfd, "add", NAME, published)
    folder = tmp_path / "bundle"
    code, said = weights(capfd, "bundle", folder, "mine", NAME, "default")
    assert code == 0
    assert "4 weight files" in said  # the default has one in 8-bit integers, too
    assert (folder / "requirements.txt").is_file()
    monkeypatch.setenv("LUNGBOX_BUNDLE", str(folder))
    monkeypatch.setenv("LUNGBOX_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "elsewhere/cache"))
    monkeypatch.setenv("LUNGBOX_OFFLINE", "1")
    assert weights(capfd, "fetch", "mine", NAME, "default")[0] == 0
    assert load_manifest().ensemble("mine").members == ("mine",)


def test_a_second_bundle_into_the_same_folder_adds_to_it(capfd, tiny, tmp_path, monkeypatch):
    for name in ("one", "two"):
        weights(capfd, "add", name, tiny, "--architecture", "unet_lite0", "--image-size", 64)
    folder = tmp_path / "bundle"
    code, said = weights(capfd, "bundle", folder, "one")
    assert code == 0
    assert "1 weight file in" in said
    assert weights(capfd, "bundle", folder, "two")[0] == 0
    texts = [(folder / name).read_text() for name in ("manifest.toml", "pins.json")]
    assert str(tmp_path) not in "".join(texts)
    moved = folder.rename(tmp_path / "moved")
    monkeypatch.setenv("LUNGBOX_BUNDLE", str(moved))
    monkeypatch.setenv("LUNGBOX_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "elsewhere/cache"))
    code, said = weights(capfd, "fetch", "one", "two")
    assert code == 0
    assert f"one: {moved}" in said
    assert f"two: {moved}" in said
    assert weights(capfd, "remove", "one")[1].startswith("one: is in a bundle")


def test_a_bundles_pins_name_no_path_of_this_machine(capfd, published, tmp_path):
    weights(capfd, "add", NAME, published)
    folder = tmp_path / "bundle"
    assert weights(capfd, "bundle", folder, NAME)[0] == 0
    assert str(published.parent) not in (folder / "pins.json").read_text()


def test_a_folder_that_is_no_bundle_is_left_alone(capfd, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/one.png").write_bytes(b"x")
    code, said = weights(capfd, "bundle", tmp_path / "photos", "default")
    assert code == 2
    assert "is neither empty nor a bundle" in said
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["one.png"]


def test_a_bundle_with_wheels_has_lungboxs_own(capfd, tmp_path, monkeypatch):
    called = []

    def run(command, check):
        called.append(command[3:])
        wheels = tmp_path / "bundle/wheels"
        wheels.mkdir(exist_ok=True)
        if command[3] == "wheel":
            (wheels / "lungbox-0-py3-none-any.whl").write_bytes(b"")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    code, said = weights(capfd, "bundle", tmp_path / "bundle", "default", "--wheels")
    assert code == 0
    assert [command[0] for command in called] == ["download", "wheel"]
    assert "--no-deps" in called[1]
    assert called[1][-1] == str(ROOT)
    assert "requirements.txt lungbox" in said


def test_start_up_is_quick_and_imports_no_keras():
    program = (
        "import sys; from lungbox.cli import main as cli\n"
        "try: cli.main(['weights', 'verify', 'lite0'])\n"
        "except SystemExit: pass\n"
        "assert 'keras' not in sys.modules and 'openvino' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
