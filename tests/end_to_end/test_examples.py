"""The example radiographs: the demo draws the README's picture, in words and in boxes."""

import csv
import importlib.util

import numpy as np
import pytest
from PIL import Image

from lungbox.cli import main
from lungbox.engines.openvino import fastest
from tests.conftest import ROOT

ASKED = "inference.py examples --overlays --precision float32"
WITH_BOXES = {"00000193_019": 2, "00002954_007": 1, "00010773_019": 2}


def overlays(examples, output, precision):
    """What a run in a precision leaves; how many boxes each radiograph got."""
    asked = [str(examples), "--overlays", "--precision", precision, "--output", str(output)]
    with pytest.raises(SystemExit) as ended:
        main.main(["predict", *asked])
    assert not ended.value.code
    with (output / "images.csv").open(newline="") as file:
        rows = {row["patientId"]: int(row["boxes"]) for row in csv.DictReader(file)}
    assert len(rows) == 8
    return output / "overlays", {name: boxes for name, boxes in rows.items() if boxes}


def script():
    spec = importlib.util.spec_from_file_location("examples", ROOT / "docs/images/examples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_demo_readme_and_picture_ask_for_the_same():
    for name in ("Makefile", "README.md", "docs/images/examples.py"):
        assert ASKED in (ROOT / name).read_text(), name


@pytest.mark.slow
def test_the_demo_draws_the_readmes_picture(examples, tmp_path):
    folder, boxes = overlays(examples, tmp_path, "float32")
    assert boxes == WITH_BOXES
    drawn = np.asarray(script().sheet_of(folder).convert("RGB"), np.float32)
    with Image.open(ROOT / "docs/images/examples.png") as picture:
        shown = np.asarray(picture.convert("RGB"), np.float32)
    assert drawn.shape == shown.shape
    # The same to the last pixel here; in 8 bits 0.5 % are other ones, where edges of boxes are.
    assert (np.abs(drawn - shown).max(axis=-1) > 64).mean() < 0.0005


@pytest.mark.skipif(fastest(("int8", "float32")) != "int8", reason="needs a processor with VNNI")
def test_the_same_get_boxes_in_eight_bits(examples, tmp_path):
    assert overlays(examples, tmp_path, "int8")[1] == WITH_BOXES
