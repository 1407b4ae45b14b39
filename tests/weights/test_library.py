"""`lungbox weights`: every command as a user types it."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from lungbox import architecture, cli
from lungbox.weights.fetch import cached, sha256
from lungbox.weights.files import load_weights
from lungbox.weights.manifest import load_manifest, own_path, read_manifest
from tests import reference
from tests.conftest import ROOT
from tests.tiny import save_tiny

NAME = "reference_unet_vgg19_attention"
NETWORK = "unet_vgg19_attention_reference"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A Keras 2 weight file of one of the published networks."""
    return reference.write_h5(NETWORK, tmp_path_factory.mktemp("h5") / "vgg19.h5", first=5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny") / "tiny.safetensors", 1)


@pytest.fixture(autouse=True)
def _own(own_home, tmp_path, monkeypatch):
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LUNGBOX_BUNDLE", raising=False)


def weights(capfd, *arguments: object) -> tuple[int, str]:
    """Exit code and what was said of `lungbox weights ARGUMENTS`."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["weights", *map(str, arguments)])
    said = capfd.readouterr()
    return int(ended.value.code or 0), said.out + said.err


def test_list_says_what_is_here(capfd):
    code, said = weights(capfd, "list")
    assert code == 0
    rows = {line.split("│")[1].strip(): line for line in said.splitlines() if line.startswith("│")}
    assert "here" in rows["lite0"]
    assert "fetched" in said
    assert "published" in said


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
    assert manifest.file("mine").image_size == 64
    assert manifest.file("mine").sha256 == sha256(tiny)
    assert weights(capfd, "fetch", "mine")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("new", "tiny"), "say which network it is, with --architecture"),
        (("new", "absent", "--architecture", "unet_lite0"), "there is no such weight file"),
        (("new", "page", "--architecture", "unet_lite0"), "web page"),
        (("new", "tiny", "--architecture", "unet_lite1"), "did you mean unet_lite0"),
        ((NAME, "page"), "web page"),
        (("lite0", "tiny"), "bytes instead of"),
    ],
)
def test_add_refuses(capfd, tiny, tmp_path, arguments, sentence):
    page = tmp_path / "page.h5"
    page.write_bytes(b"<!DOCTYPE html><html>Sign in</html>")
    files = {"tiny": tiny, "page": page, "absent": tmp_path / "absent.h5"}
    name, file, *rest = arguments
    code, said = weights(capfd, "add", name, files[file], *rest)
    assert code == 2
    assert sentence in said
    assert "Traceback" not in said
    assert not own_path().is_file() or "new" not in read_manifest(own_path()).weights


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


def test_convert_names_what_does_not_fit(capfd, published):
    code, said = weights(capfd, "convert", published, "--architecture", "aspp_resnet152_reference")
    assert code == 2
    assert "Traceback" not in said
    assert "vgg19" in said
    assert not own_path().is_file()


def test_remove(capfd, tiny, published):
    weights(capfd, "add", "mine", tiny, "--architecture", "unet_lite0")
    assert weights(capfd, "remove", "mine") == (0, "mine: removed 1 file\n")
    assert "mine" not in load_manifest().weights
    assert "mine" not in load_manifest().ensembles
    weights(capfd, "add", NAME, published)
    assert weights(capfd, "remove", NAME)[1] == f"{NAME}: removed 1 file\n"
    assert NAME in load_manifest().weights
    assert weights(capfd, "remove", "lite0")[1] == "lite0: removed 0 files\n"
    assert "here" in weights(capfd, "verify", "lite0")[1]


def test_weights_that_are_not_published_say_how_to_train_them(capfd):
    code, said = weights(capfd, "fetch", "four")
    assert code == 2
    assert "python train.py recipes/four.toml --set architecture=unet_resnet152" in said


def test_a_bundle_carries_everything(capfd, tiny, published, tmp_path, monkeypatch):
    weights(capfd, "add", "mine", tiny, "--architecture", "unet_lite0", "--image-size", 64)
    weights(capfd, "add", NAME, published)
    folder = tmp_path / "bundle"
    code, said = weights(capfd, "bundle", folder, "mine", NAME, "default")
    assert code == 0
    assert "3 weight files" in said
    assert (folder / "requirements.txt").is_file()
    monkeypatch.setenv("LUNGBOX_BUNDLE", str(folder))
    monkeypatch.setenv("LUNGBOX_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "elsewhere/cache"))
    monkeypatch.setenv("LUNGBOX_OFFLINE", "1")
    assert weights(capfd, "fetch", "mine", NAME, "default")[0] == 0
    assert load_manifest().ensemble("mine").members == ("mine",)


def test_start_up_is_quick_and_imports_no_keras():
    program = (
        "import sys; from lungbox import cli\n"
        "try: cli.main(['weights', 'verify', 'lite0'])\n"
        "except SystemExit: pass\n"
        "assert 'keras' not in sys.modules and 'openvino' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
