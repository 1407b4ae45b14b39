"""`lungbox prepare`, `folds` and `audit`, from the command line."""

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from lungbox import datasets
from lungbox.cli import data
from lungbox.radiograph import read
from tests.datasets import kaggle

app = typer.Typer()
for command in (data.prepare, data.folds, data.audit):
    app.command()(command)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "cache"))
    return kaggle.write_rsna(tmp_path / "data", 5)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_prepare_reads_once_and_says_how_fast(folder):
    first = run("prepare", "--data", folder, "--size", "64")
    assert first.exit_code == 0, first.output
    assert "5 images of 64 x 64 pixels, 0.0 MB" in first.stdout
    assert "5 read in" in first.stdout
    assert "all 26,684 of RSNA" in first.stdout
    assert "0.11 GB" in first.stdout
    again = run("prepare", "--data", folder, "--size", "64")
    assert "none had to be read" in again.stdout
    other = run("prepare", "--data", folder, "--size", "64", "--preparation", "nearest")
    assert "5 read in" in other.stdout


def test_prepare_names_what_it_cannot_read(folder):
    path = sorted(folder.rglob("*.dcm"))[2]
    path.write_bytes(path.read_bytes()[:-800])
    result = run("prepare", "--data", folder, "--size", "64")
    assert result.exit_code == 3
    assert path.name in result.stderr
    assert "4 images of 64 x 64" in result.stdout


def test_folds_are_written_for_others(folder):
    before = datasets.load(folder)
    result = run("folds", "--data", folder, "--output", folder / "folds.csv")
    assert result.exit_code == 0, result.output
    assert "fold 4: 1 images, 1 patients" in result.stdout
    lines = (folder / "folds.csv").read_text().splitlines()
    assert lines[0] == "image_id,source,patient,category,fold"
    assert [int(line[-1]) for line in lines[1:]] == [image.fold for image in before.images]


def test_audit_lists_and_counts(folder):
    assert run("audit", "--data", folder).stdout.endswith("\n0 issues\n")
    with (folder / "stage_2_train_labels.csv").open("a") as file:
        file.write("gone,,,,,0\n0001e1f0-1,5,5,0,9,1\n")
    result = run("audit", "--data", folder)
    assert result.exit_code == 3
    assert "gone: labelled, but there is no image of that name" in result.stdout
    assert "0001e1f0-1: its box is 0 x 9 pixels; left out" in result.stdout
    assert "     1 box without area" in result.stdout


def test_audit_of_images(tmp_path, monkeypatch, examples):
    """Radiographs, one of them inverted, one that is noise and one that is cut off."""
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data/images").mkdir(parents=True)
    first, second, third, *_ = sorted(examples.glob("*.png"))
    names = ("sound", "inverted", "noise", "damaged")
    for name, path in zip(names, (first, second, first, third), strict=True):
        pixels = read(path).pixels
        if name == "inverted":
            pixels = 255 - pixels
        elif name == "noise":
            pixels = np.random.default_rng(0).integers(0, 256, (300, 250), np.uint8)
        file = tmp_path / f"data/images/{name}.png"
        Image.fromarray(pixels).save(file)
        if name == "damaged":
            file.write_bytes(file.read_bytes()[:-20_000])
    (tmp_path / "data/boxes.csv").write_text(
        "image_id,x,y,width,height\n" + "".join(f"{name},,,,\n" for name in names)
    )
    without = run("audit", "--data", tmp_path / "data")
    assert without.stdout.endswith("\n0 issues\n"), without.output
    result = run("audit", "--data", tmp_path / "data", "--images")
    assert result.exit_code == 3
    assert "inverted.png: looks inverted; used as it is\n" in result.stdout
    flag = "does not look like a frontal chest radiograph"
    assert f"noise.png: {flag}; used as it is\n" in result.stdout
    assert "damaged.png: " in result.stdout
    assert "sound.png" not in result.stdout
    assert "\n3 issues\n" in result.stdout
    assert "     1 image that looks inverted\n" in result.stdout
