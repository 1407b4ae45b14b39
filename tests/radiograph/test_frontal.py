"""What looks like an upright frontal chest radiograph, and what does not."""

import re
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw
from pydicom.data import get_testdata_file

from lungbox.common.paths import shipped_checkpoints
from lungbox.radiograph import frontal, frontal_flag, prepare, read
from lungbox.radiograph.frontal import CLASSES, FILE, OTHER, SIDE, load_network, margin, thumbnail
from tests.conftest import ROOT

NOT_A_CHEST = "does not look like a frontal chest radiograph"
EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.suffix in (".png", ".dcm"))


def flag_of(pixels: np.ndarray, size: int = 256, preparation: str = "equalised") -> str:
    return frontal_flag(prepare(np.ascontiguousarray(pixels), size, preparation))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_radiographs_are_not_flagged(path):
    pixels = read(path).pixels
    assert flag_of(pixels) == ""
    assert flag_of(pixels, 128, "nearest") == ""
    assert flag_of(pixels, 320) == ""
    assert flag_of(pixels[:, ::-1]) == ""
    assert flag_of(pixels[40:-60, 50:-30]) == ""
    assert flag_of(np.pad(pixels, ((0, 0), (120, 120)))) == ""


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        (lambda pixels: np.rot90(pixels), "looks rotated by 90 degrees"),
        (lambda pixels: np.rot90(pixels, 3), "looks rotated by 90 degrees"),
        (lambda pixels: np.rot90(pixels, 2), "looks upside down"),
        (lambda pixels: pixels[::-1], "looks upside down"),
        (lambda pixels: 255 - pixels, "looks inverted"),
        (lambda pixels: np.rot90(255 - pixels), "looks inverted and rotated by 90 degrees"),
        (lambda pixels: 255 - pixels[::-1], "looks inverted and upside down"),
    ],
)
def test_rotated_and_inverted_radiographs_are_named(change, flag):
    """All of them are flagged; of one or another it may not be certain which it is."""
    flags = [flag_of(change(read(path).pixels)) for path in EXAMPLES]
    assert len(flags) == 8
    assert set(flags) <= {flag, NOT_A_CHEST}
    assert flags.count(flag) >= 7


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_flagged(seed):
    random = np.random.default_rng(seed)
    assert flag_of(random.integers(0, 256, (300, 260), np.uint8)) == NOT_A_CHEST
    normal = np.clip(random.normal(128, 40, (512, 480)), 0, 255)
    assert flag_of(normal.astype(np.uint8)) == NOT_A_CHEST


def test_plain_and_drawn_images_are_flagged():
    y, x = np.mgrid[:200, :240]
    for gray in (0, 128, 255):
        assert flag_of(np.full((200, 240), gray, np.uint8)) == NOT_A_CHEST
    for gradient in (x, y, x + y):
        values = (gradient * (255 / gradient.max())).astype(np.uint8)
        assert flag_of(values) != ""
        assert flag_of(255 - values) != ""
    for side in (12, 25, 50):
        assert flag_of(((x // side + y // side) % 2 * 255).astype(np.uint8)) != ""


def test_a_page_of_text_is_flagged():
    page = Image.new("L", (620, 877), 255)
    for line in range(40):
        text = "The lungs are clear. No effusion. "[line % 9 :] * 3
        ImageDraw.Draw(page).text((50, 30 + 20 * line), text, fill=0)
    assert flag_of(np.asarray(page)) == NOT_A_CHEST
    assert flag_of(255 - np.asarray(page)) == NOT_A_CHEST


@pytest.mark.parametrize("name", ["astronaut", "camera", "cat", "coffee", "coins", "moon", "page"])
def test_pictures_are_flagged(name):
    pixels = getattr(skimage.data, name)()
    assert flag_of(read(pixels).pixels) != ""


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_sections_are_flagged(name):
    assert flag_of(read(Path(get_testdata_file(name))).pixels) != ""


def test_flags_fit_a_table():
    assert len(CLASSES) == OTHER + 1
    assert set(CLASSES) - frontal.FLAGS == {""}
    assert all(
        re.fullmatch(r"(looks|does not look) [a-z0-9 ]{,80}", flag) for flag in frontal.FLAGS
    )


def test_the_margin_is_log_odds():
    logits = np.array([[2.0, *[0.0] * 8], [-1.0, 3.0, *[-50.0] * 7], [90.0, *[-900.0] * 8]])
    expected = [2 - np.log(8), -4.0, 990 - np.log(8)]
    assert margin(logits.astype(np.float32)) == pytest.approx(expected, rel=1e-5)


def test_uncertain_images_are_not_named(monkeypatch):
    """An image whose likeliest class has less than four fifths of the others' probability."""

    def flag(*others: float) -> str:
        logits = np.log(np.array([[1e-6, *others, *[1e-9] * (8 - len(others))]], np.float32))
        network = frontal.FrontalNetwork((), (logits.T, logits[0]), threshold=0.0)
        monkeypatch.setattr(frontal.FrontalNetwork, "logits", lambda *_: logits)
        monkeypatch.setattr(frontal, "shipped_network", lambda: network)
        return frontal_flag(np.zeros((64, 64), np.uint8))

    assert flag(0.1, 0.1, 0.1, 0.75) == NOT_A_CHEST
    assert flag(0.05, 0.05, 0.05, 0.85) == "looks inverted"
    assert flag(0.05, 0.95) == "looks upside down"


def test_numpy_computes_what_keras_does():
    from safetensors.numpy import load_file

    from benchmarks.frontal import fit

    path = shipped_checkpoints() / FILE
    model, tensors = fit.network(), load_file(path)
    for layer in model.layers:
        if layer.name.startswith(("conv", "dense")):
            layer.set_weights([tensors[f"{layer.name}/{name}"] for name in ("kernel", "bias")])
    random = np.random.default_rng(0)
    images = [thumbnail(prepare(read(path).pixels, 256)) for path in EXAMPLES[:3]]
    images = np.stack([*images, random.integers(0, 256, (SIDE, SIDE), np.uint8)])
    expected = model.predict(images[..., None].astype(np.float32), verbose=0)
    assert load_network(path).logits(images) == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert path.stat().st_size < 200_000


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "images", "name", "column"),
    [
        ("rsna/images.csv", "rsna/images", "patientId", "fold"),
        ("siim/images.csv", "siim/images", "image_id", "fold"),
        ("nih/nih_images.csv", "nih/images", "image_id", "fold"),
        ("vinbigdata/images.csv", "vinbigdata/images256", "image_id", "fold"),
    ],
)
def test_false_alarms_on_held_out_radiographs(shared, table, images, name, column):
    import csv

    with (shared / table).open(newline="") as file:
        held_out = [row[name] for row in csv.DictReader(file) if row[column] == "0"][:250]
    flags = [flag_of(read(shared / images / f"{one}.jpg").pixels) for one in held_out]
    assert len(flags) == 250
    assert sum(map(bool, flags)) <= 2
