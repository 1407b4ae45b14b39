"""Lungbox as pip installs it: what its wheel holds and says, and what is missing without extras."""

import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import packages_distributions

import pytest

from lungbox.cli import main
from lungbox.common.backend import EXTRAS
from lungbox.inference import predictor
from lungbox.weights.manifest import load_manifest
from tests.conftest import ROOT
from tests.tiny import enter_tiny

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture
def lacking(monkeypatch):
    """An installation without some modules."""

    def without(*names):
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)  # importing it raises
        real = sys.modules["importlib.util"].find_spec
        monkeypatch.setattr(
            "lungbox.common.backend.find_spec", lambda name: None if name in names else real(name)
        )
        for name in [name for name in sys.modules if name.startswith("lungbox.training")]:
            monkeypatch.delitem(sys.modules, name)

    return without


def said_by(capfd, *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main.main([*map(str, arguments)])
    assert ended.value.code == 2
    return capfd.readouterr().err


@pytest.mark.parametrize("missing", [("albumentations", "tensorboardX"), ("tensorboardX",)])
@pytest.mark.parametrize("command", [("train",), ("distill", "--teacher", "default")])
def test_training_says_what_it_needs(capfd, lacking, tmp_path, command, missing):
    lacking(*missing)
    said = said_by(capfd, *command, "lite0", "--data", tmp_path)
    assert said == (
        f"lungbox: training needs {' and '.join(missing)}, which this installation lacks: "
        "pip install 'lungbox[train]'\n"
    )


def test_any_command_that_meets_a_missing_module_says_so(capfd, lacking, tmp_path, monkeypatch):
    def needs_it(*_):
        raise ModuleNotFoundError("No module named 'wandb.sdk'", name="wandb.sdk")

    monkeypatch.setattr("lungbox.inference.run.predict_folder", needs_it)
    said = said_by(capfd, "predict", tmp_path)
    assert said == (
        "lungbox: this needs wandb, which this installation lacks: pip install 'lungbox[wandb]'\n"
    )


def test_a_module_that_is_no_extras_is_a_fault_of_the_code(tmp_path, monkeypatch):
    def broken(*_):
        raise ModuleNotFoundError("No module named 'lungbox.nowhere'", name="lungbox.nowhere")

    monkeypatch.setattr("lungbox.inference.run.predict_folder", broken)
    with pytest.raises(ModuleNotFoundError):
        main.main(["predict", str(tmp_path)])


def test_quantising_says_what_it_needs(capfd, lacking, tmp_path):
    lacking("nncf")
    assert "pip install 'lungbox[quantize]'" in said_by(
        capfd, "quantize", "default", "--data", tmp_path
    )


def test_every_module_comes_with_the_extra_that_is_named():
    """As pyproject.toml has it, by the packages that are installed here."""
    packages = packages_distributions()
    for module, extra in EXTRAS.items():
        named = {requirement_name(text) for text in PROJECT["optional-dependencies"][extra]}
        if module in packages:
            assert {normal(name) for name in packages[module]} & named, module


def requirement_name(text: str) -> str:
    return normal(text.partition("=")[0].partition(">")[0].partition("[")[0].strip())


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Made by hatchling as pip would have it made, where that is installed."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(folder / done.stdout.split()[-1]) as archive:
        yield archive


def test_what_the_wheel_holds(wheel):
    names = set(wheel.namelist())
    for name in (
        "py.typed",
        "cli/main.py",
        "checkpoints/lite0.safetensors",
        "checkpoints/frontal.safetensors",
        "checkpoints/LICENSE.txt",
        *(f"checkpoints/graphs/{path.name}" for path in (ROOT / "checkpoints/graphs").iterdir()),
    ):
        assert f"lungbox/{name}" in names
    for recipe in ("four", "lite0", "lite0_first", "reference"):
        assert (
            wheel.read(f"lungbox/recipes/{recipe}.toml")
            == (ROOT / f"recipes/{recipe}.toml").read_bytes()
        )
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_what_the_wheel_says_of_its_licences(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["License-Expression"] == "Apache-2.0 AND LicenseRef-Lungbox-Weights"
    assert metadata.get_all("License-File") == ["LICENSE", "checkpoints/LICENSE.txt"]


def test_the_project_says_both_licences_and_has_both():
    assert PROJECT["license"] == "Apache-2.0 AND LicenseRef-Lungbox-Weights"
    for name in PROJECT["license-files"]:
        assert (ROOT / name).is_file()
    notice = (ROOT / "checkpoints/LICENSE.txt").read_text()
    assert notice.startswith("LicenseRef-Lungbox-Weights:")
    for path in (ROOT / "checkpoints").glob("*.safetensors"):
        assert path.name in notice
    assert "py.typed" in {path.name for path in (ROOT / "lungbox").iterdir()}


def test_terms_of_the_default_are_said_the_first_time(capfd, examples, tmp_path, monkeypatch):
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "cache"))
    terms = f"Terms of the weights lite0: {load_manifest().weights['lite0'].licence}\n"
    assert "not commercial use" in terms
    file, seen = examples / "00000193_019.png", []
    for number in range(2):
        with pytest.raises(SystemExit) as ended:
            main.main(["predict", str(file), "--output", str(tmp_path / f"{number}")])
        assert not ended.value.code
        seen.append(capfd.readouterr().err.count(terms))
    assert seen == [1, 0]


def test_terms_are_said_in_python_too(own_home, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "cache"))
    caplog.set_level("WARNING", "lungbox")  # NNCF, used by other tests, raises the root's level
    enter_tiny(tmp_path)  # whose entry names no terms
    job, *_ = predictor.open_ensemble("tiny", 1)
    assert predictor.terms(job) == []
    monkeypatch.setattr(predictor, "start", lambda *_: None)
    for _ in range(2):
        predictor.load("default")
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "Terms of the weights lite0"
    ]


def test_a_bundle_has_the_terms_of_the_weights_in_it(tmp_path):
    with pytest.raises(SystemExit) as ended:
        main.main(["weights", "bundle", str(tmp_path / "bundle"), "default"])
    assert not ended.value.code
    notice = (tmp_path / "bundle/LICENSE.txt").read_bytes()
    assert notice == (ROOT / "checkpoints/LICENSE.txt").read_bytes()
