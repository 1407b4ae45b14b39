"""`--members`: what each network of an ensemble says."""

import numpy as np
import pytest
from PIL import Image

from lungbox import architecture
from lungbox.cli import main
from lungbox.constants import OPACITY
from lungbox.datasets.phantom import draw
from lungbox.inference.files import find_image_files
from lungbox.inference.predictor import load
from lungbox.weights.collection import add
from lungbox.weights.entries import Ensemble
from lungbox.weights.formats.safetensors import save_weights
from lungbox.weights.manifest import load_manifest, register
from tests.small_detectors import registered_detectors
from tests.tiny import SIDE, enter_tiny

pytestmark = pytest.mark.usefixtures("small_networks")


def test_members_are_kept_and_drawn(own_home, tmp_path):
    for seed, name in enumerate(("one", "two")):
        enter_tiny(tmp_path, name, seed)
    weights = load_manifest().weights
    register("both", weights["one"], Ensemble(members=("one", "two"), weights=(1, 3), min_area=0))
    folder = tmp_path / "in/deep"
    folder.mkdir(parents=True)
    for number in range(3):
        pixels = draw(80, number, np.random.default_rng(number)).pixels
        Image.fromarray(pixels).save(folder / f"{number}.png")
    asked = ["predict", tmp_path / "in", "--ensemble", "both", "--members"]
    with pytest.raises(SystemExit) as ended:
        main.main([*map(str, asked), "--output", str(tmp_path / "out")])
    assert not ended.value.code
    assert not (tmp_path / "out/overlays").exists()
    sources, _ = find_image_files(tmp_path / "in")
    alone = {name: list(load(name).predict_all(sources)) for name in ("one", "two")}
    for number, source in enumerate(sources):
        with np.load(tmp_path / f"out/members/{source.identity}.npz") as kept:
            assert set(kept) == {"one", "two"}
            for name, outcomes in alone.items():
                expected = outcomes[number].mask[..., OPACITY] * 255
                assert np.abs(kept[name] - expected).max() <= 0.51
        with Image.open(tmp_path / f"out/members/{source.identity}.png") as picture:
            assert picture.width == 3 * 384 + 2 * 4


def test_an_ensemble_without_masks_is_refused(own_home, tmp_path, capfd):
    """Before anything is read: there would be nothing to write."""
    file = tmp_path / "weights.safetensors"
    with registered_detectors():
        save_weights(architecture.build("small_retinanet", SIDE), file)
        add("boxes", file, "small_retinanet")
        Image.fromarray(draw(80, 1, np.random.default_rng(0)).pixels).save(tmp_path / "a.png")
        with pytest.raises(SystemExit) as ended:
            main.main(["predict", str(tmp_path / "a.png"), "--ensemble", "boxes", "--members"])
    assert ended.value.code == 2
    assert "--members: boxes has no segmentation network" in " ".join(
        capfd.readouterr().err.split()
    )
