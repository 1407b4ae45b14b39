"""The four networks' recipe as a user runs it: trained, entered, used."""

import subprocess
import sys

import pytest

from lungbox.datasets.phantom import write_rsna
from lungbox.submission import read_submission
from lungbox.weights.manifest import load_manifest
from tests.conftest import ROOT

SMALL = ("encoder_weights=none", "batch_size=2", "data.samples_per_epoch=8")


def run(*arguments):
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.long("trains networks of a hundred layers, converts them and runs them")
@pytest.mark.parametrize("network", ["unet_densenet121", "aspp_resnet152"])
def test_trained_entered_and_used(own_home, tmp_path, network):
    write_rsna(tmp_path / "data/rsna", count=15, size=64)
    changes = (f"architecture={network}", *SMALL, "stages=[{epochs=1, image_size=64}]")
    settings = [part for change in changes for part in ("--set", change)]
    recipe = ("train.py", "recipes/four.toml", "--data", tmp_path / "data")
    said = run(*recipe, "--run", tmp_path / "run", *settings)
    (name,) = load_manifest().ensembles.keys() - {"default", "reference", "four"}
    assert name in said
    assert load_manifest().file(name).architecture == network
    weights = tmp_path / "run/weights.safetensors"
    run("-m", "lungbox", "weights", "add", f"four_{network}", weights)
    assert "here" in subprocess.run(
        [sys.executable, "-m", "lungbox", "weights", "verify", f"four_{network}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    images = tmp_path / "data/rsna/images"
    run("inference.py", images, "--ensemble", name, "--output", tmp_path / "out")
    assert len(read_submission(tmp_path / "out/submission.csv")) == 15
