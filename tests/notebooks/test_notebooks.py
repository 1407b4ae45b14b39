"""The notebooks, executed on small inputs in Kaggle's layout."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient.exceptions import CellExecutionError

from lungbox.submission import read_submission
from tests.conftest import ROOT
from tests.notebooks.attached import (
    IMAGES,
    TRAINED_ON,
    write_competition,
    write_portraits,
    write_vinbigdata,
)
from tests.notebooks.executed import NOTEBOOKS, execute

EVERY = sorted(NOTEBOOKS.glob("*.ipynb"))
# The least that is trained at all: a batch an epoch, as small as can be, behind a frozen encoder.
SMALLEST = {
    "EPOCHS": 3,
    "IMAGE_SIZE": 32,
    "CHANGES": [
        "batch_size=8",
        "data.samples_per_epoch=8",
        "optimizer.encoder_learning_rate=0",
        "augmentation.enabled=false",
    ],
}


@pytest.fixture(scope="module")
def competition(tmp_path_factory, examples):
    return write_competition(tmp_path_factory.mktemp("rsna") / "rsna", examples)


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_stored_without_outputs(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|Users|tmp|work)/", text)
    assert "Research use only. Not a medical device; not for diagnosis." in text


def install_cell(name):
    """The cell that installs Lungbox."""
    cells = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4).cells
    (cell,) = [cell for cell in cells if "pip" in cell.source and cell.cell_type == "code"]
    return cell.source


@pytest.mark.parametrize("name", ["eda", "train_on_kaggle"])
def test_lungbox_is_installed_from_a_bundle(name, tmp_path, monkeypatch):
    """Without internet, where it is not there; else nothing is done."""
    asked = []
    ended = subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append(command) or ended)
    given = {"BUNDLE": str(tmp_path), "bundle": tmp_path}
    exec(install_cell(name), dict(given))
    assert not asked
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/wheels: has no lungbox-"):
        exec(install_cell(name), {**given, "Path": Path})
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/lungbox-0-py3-none-any.whl").touch()
    exec(install_cell(name), {**given, "Path": Path})
    ((python, *command),) = asked
    assert python == sys.executable
    assert command[:5] == ["-m", "pip", "install", "--quiet", "--no-index"]
    assert command[5:7] == ["--find-links", str(tmp_path / "wheels")]
    assert command[7] == {"eda": "lungbox", "train_on_kaggle": "lungbox[train]"}[name]


@pytest.mark.slow
def test_what_is_in_the_data(competition, tmp_path):
    table = write_vinbigdata(tmp_path / "train.csv")
    done = execute("eda", tmp_path, DATA=str(competition), VINBIGDATA=str(table), SAMPLE=8)
    assert done.figures == 9
    assert f"{IMAGES + len(TRAINED_ON)} images of" in done.said
    assert "4 images to predict" in done.said
    assert "8 radiographs read, 0 could not be" in done.said
    assert "2 images with 3 readers" in done.said
    # Of 6 + 4 boxes in three pairs of readers all of the one class agree and none of the other.
    assert "60.0% of all boxes agree with the other reader's in class and place" in done.said


@pytest.mark.slow
def test_without_vinbigdata_the_rest_is_shown(tmp_path):
    """Of files that are not square: boxes as shares of their sides, and their shape in pixels."""
    competition = write_portraits(tmp_path / "rsna")
    last = (
        "print(np.round(shares, 4).tolist())\n"
        "print([f'{value:.4f}' for value in aspect])\n"
        "print([(int(axis.min()), int(axis.max())) for axis in np.nonzero(covered)])"
    )
    done = execute("eda", tmp_path, last, DATA=str(competition), SAMPLE=4)
    assert done.figures == 7
    assert "VINBIGDATA is not set" in done.said
    assert str([[0.25, 0.125, 0.5, 0.625]] * 4) in done.said
    # 24 pixels wide, 64 high.
    assert str(["2.6667"] * 4) in done.said
    assert "[(8, 39), (16, 31)]" in done.said
    assert "100% of the boxes are in the left half" in done.said
    assert "0% are in its lower half" in done.said


@pytest.mark.long("two sessions with six processes each train, convert and run EfficientNet-Lite0")
@pytest.mark.release
def test_from_the_competition_to_a_submission(competition, tmp_path):
    """In two sessions, the first of which is stopped in its training."""
    inputs, earlier = tmp_path / "input", tmp_path / "input/earlier-session"
    inputs.mkdir()
    (inputs / "rsna-pneumonia-detection-challenge").symlink_to(competition)
    make_bundle(inputs / "lungbox-bundle")

    def session(number, **settings):
        folder = tmp_path / f"session-{number}"
        places = {"INPUT": inputs, "WORKING": folder / "working", "SCRATCH": folder / "scratch"}
        (folder / "working").mkdir(parents=True)
        named = {name: str(place) for name, place in places.items()}
        return execute("train_on_kaggle", folder, **named, **SMALLEST, **settings), folder

    first, folder = session(1, HOURS=0)
    assert "earlier run: none" in first.said
    assert "Not finished" in first.said
    assert not (folder / "working/submission.csv").exists()
    before = pd.read_csv(folder / "working/lungbox-run/log.csv")
    shutil.copytree(folder / "working", earlier)

    second, folder = session(2)
    assert f"earlier run: {earlier / 'lungbox-run'}" in second.said
    after = pd.read_csv(folder / "working/lungbox-run/log.csv")
    assert after["epoch"].tolist() == [1, 2, 3]
    # The first epoch is the first session's, to the second it took.
    assert after.iloc[0].equals(before.iloc[0])
    assert (folder / "working/folds.csv").read_bytes() == (earlier / "folds.csv").read_bytes()
    assert "Registered: python -m lungbox predict" in second.said or "which stays" in second.said
    assert second.figures == 1
    assert second.said.count("images of 32 x 32 pixels") == 1

    sample = pd.read_csv(competition / "stage_2_sample_submission.csv")
    submission = folder / "working/submission.csv"
    assert pd.read_csv(submission)["patientId"].tolist() == sample["patientId"].tolist()
    assert set(read_submission(submission, size=(1024, 1024))) == set(sample["patientId"])
    assert "4 rows as in the sample" in second.said
    assert list((folder / "working/trained").glob("*.safetensors"))


@pytest.mark.slow
def test_what_is_not_attached_is_named(competition, tmp_path):
    inputs = tmp_path / "input"
    places = {"INPUT": str(inputs), "WORKING": str(tmp_path), "SCRATCH": str(tmp_path)}
    with pytest.raises(CellExecutionError) as nothing:
        execute("train_on_kaggle", tmp_path, **places)
    assert nothing.value.evalue == (
        f"{inputs}: no input has stage_2_train_labels.csv; "
        "add the competition RSNA Pneumonia Detection Challenge"
    )
    inputs.mkdir()
    (inputs / "rsna").symlink_to(competition)
    with pytest.raises(CellExecutionError) as no_bundle:
        execute("train_on_kaggle", tmp_path, **places, RECIPE="none.toml")
    assert no_bundle.value.evalue.startswith(f"{inputs}: no input has recipes/none.toml; add")


@pytest.mark.slow
def test_a_folder_without_data_is_named(tmp_path):
    with pytest.raises(CellExecutionError) as raised:
        execute("eda", tmp_path, DATA=str(tmp_path / "nowhere"))
    assert raised.value.ename == "DatasetError"
    assert raised.value.evalue == f"{tmp_path / 'nowhere'}: there is no such folder"


def make_bundle(folder):
    """As the notebook says, but for the wheels, which this interpreter needs none of."""
    command = [sys.executable, "-m", "lungbox", "weights", "bundle", str(folder), "default"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
