"""`--members`: what each network of an ensemble says."""

import subprocess
import sys

import numpy as np
from PIL import Image

from lungbox.constants import OPACITY
from lungbox.datasets.phantom import draw
from lungbox.folder import gather
from lungbox.pipeline import load
from lungbox.weights.manifest import Ensemble, enter, load_manifest
from tests.conftest import ROOT
from tests.tiny import enter_tiny


def test_members_are_kept_and_drawn(own_home, tmp_path):
    for seed, name in enumerate(("one", "two")):
        enter_tiny(tmp_path, name, seed)
    weights = load_manifest().weights
    enter("both", weights["one"], Ensemble(members=("one", "two"), weights=(1, 3), min_area=0))
    folder = tmp_path / "in/deep"
    folder.mkdir(parents=True)
    for number in range(3):
        pixels = draw(80, number, np.random.default_rng(number)).pixels
        Image.fromarray(pixels).save(folder / f"{number}.png")
    command = [sys.executable, "inference.py", tmp_path / "in", "--ensemble", "both"]
    command += ["--members", "--output", tmp_path / "out"]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out/overlays").exists()
    sources, _ = gather(tmp_path / "in")
    alone = {name: list(load(name).predict_all(sources)) for name in ("one", "two")}
    for number, source in enumerate(sources):
        with np.load(tmp_path / f"out/members/{source.identity}.npz") as kept:
            assert set(kept) == {"one", "two"}
            for name, outcomes in alone.items():
                expected = outcomes[number].mask[..., OPACITY] * 255
                assert np.abs(kept[name] - expected).max() <= 0.51
        with Image.open(tmp_path / f"out/members/{source.identity}.png") as picture:
            assert picture.width == 3 * 384 + 2 * 4
