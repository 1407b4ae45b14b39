"""`lungbox quantise` on phantoms: a network of 8-bit integers, entered, chosen, carried along."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lungbox import cli
from lungbox.datasets.phantom import draw, write_rsna
from lungbox.datasets.rsna import IMAGE_FOLDERS
from lungbox.engines import EngineError, precision, start
from lungbox.engines.openvino import converted, openvino
from lungbox.errors import LungboxError
from lungbox.paths import data_folder
from lungbox.pipeline import open_ensemble
from lungbox.quantise.network import agreement, quantise
from lungbox.weights.entries import Checked, Precisions, Quantised
from lungbox.weights.manifest import Ensemble, enter_ensemble, enter_precisions, load_manifest
from tests.tiny import SIDE, enter_tiny


def run(capfd, *arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, arguments)])
    said = capfd.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """`tiny`, quantised with the command, its boxes checked on fold 0 of phantoms."""
    folder = tmp_path_factory.mktemp("quantised")
    patch = pytest.MonkeyPatch()
    patch.setenv("LUNGBOX_HOME", str(folder / "home"))
    enter_tiny(folder)
    write_rsna(folder / "data", count=40, size=SIDE)
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def made(home):
    job, _ = open_ensemble("tiny", 4, precision="float32")
    return quantise(converted(replace(job, keep_members=True)), images(12))


@pytest.fixture
def entered(home, capfd, monkeypatch, made):
    """The command itself; what is slow about it has been done."""
    monkeypatch.setattr("lungbox.quantise.network.quantise", lambda *_: made)
    if "tiny" not in load_manifest().precisions:
        code, out, err = run(capfd, "quantise", "tiny", "--data", home / "data", "--images", 12)
        assert code == 0, err
        assert [line.split(" | ")[0] for line in out.splitlines()[2:]] == [
            "| float32",
            "| bfloat16",
            "| int8",
        ]
    return load_manifest().precisions["tiny"]


def images(count):
    return np.stack([draw(SIDE, i % 3, np.random.default_rng(i)).pixels for i in range(count)])


def test_it_says_what_float32_says_and_computes_in_integers(home, made):
    kinds = {operation.get_type_name() for operation in made.network.get_ordered_ops()}
    assert "FakeQuantize" in kinds
    assert {output.get_any_name() for output in made.network.outputs} == {
        "mask",
        "image",
        "members",
    }
    compiled = openvino.Core().compile_model(made.network, "CPU")
    integers = [
        operation.get_friendly_name()
        for operation in compiled.get_runtime_model().get_ordered_ops()
        if "i8" in operation.get_rt_info()["runtimePrecision"].astype(str)
    ]
    assert len(integers) > 10
    assert 0.8 < made.agreement < 1


def test_what_is_entered_is_what_was_made(entered, home):
    manifest = load_manifest()
    assert entered.members == (manifest.weights["tiny"].sha256,)
    assert entered.shares == (1.0,)
    path = data_folder() / "weights/tiny-int8.safetensors"
    assert entered.int8.bytes == path.stat().st_size
    assert entered.int8.sources == (f"file:{path}",)
    assert entered.checked_on == "8 RSNA images of fold 0"


def test_engines_take_it_when_they_are_asked(entered):
    job, _ = open_ensemble("tiny", 4, precision="int8")
    engine = start("openvino", job)
    assert engine.precision == "int8"
    exact = start("openvino", open_ensemble("tiny", 4, precision="float32")[0])
    ours, theirs = engine.predict(images(3)), exact.predict(images(3))
    assert ours.masks.shape == theirs.masks.shape
    assert 0 < np.abs(ours.masks - theirs.masks).max()
    pairs = zip(ours.masks[..., 1], theirs.masks[..., 1], strict=True)
    assert np.mean([agreement(one, other) for one, other in pairs]) > 0.8
    with pytest.raises(EngineError, match="8-bit integers are OpenVINO's alone"):
        start("keras", job)


def test_its_members_can_be_asked_for(entered):
    job, _ = open_ensemble("tiny", 4, keep_members=True, precision="int8")
    predicted = start("openvino", job).predict(images(2))
    assert np.array_equal(predicted.members[:, 0], predicted.masks)


@pytest.mark.parametrize(
    ("int8", "bfloat16", "units", "expected"),
    [
        (0.001, 0.0, True, "int8"),
        (-0.0031, 0.003, True, "bfloat16"),
        (-0.0031, 0.003, False, "float32"),
        (0.01, -0.01, True, "float32"),
    ],
)
def test_auto_takes_the_fastest_that_passed(
    entered, home, tmp_path, monkeypatch, int8, bfloat16, units, expected
):
    cpu = tmp_path / "cpuinfo"
    cpu.write_text(f"flags\t\t: fpu avx512_bf16 {'amx_bf16' if units else ''} amx_int8\n")
    monkeypatch.setattr(precision, "_CPU", cpu)
    changed = {
        "int8": entered.int8.model_copy(update={"metric_change": int8}),
        "bfloat16": Checked(metric_change=bfloat16, same_count=1.0),
    }
    enter_precisions("tiny", entered.model_copy(update=changed))
    try:
        job, _ = open_ensemble("tiny", 4)
        assert start("openvino", job).precision == expected
    finally:
        enter_precisions("tiny", entered)


def test_what_was_found_out_about_other_weights_is_void(entered, home):
    other = entered.model_copy(update={"members": ("0" * 64,)})
    enter_precisions("tiny", other)
    try:
        assert open_ensemble("tiny", 1)[0].precisions == ("float32",)
        with pytest.raises(LungboxError, match="python -m lungbox quantise tiny --data DIR"):
            open_ensemble("tiny", 1, precision="int8")
    finally:
        enter_precisions("tiny", entered)


def test_an_ensemble_nobody_has_quantised(entered, home):
    enter_ensemble("twin", Ensemble(members=("tiny", "tiny"), min_area=0.0))
    assert open_ensemble("twin", 1)[0].precisions == ("float32",)
    with pytest.raises(LungboxError, match="twin is not there in 8-bit integers"):
        open_ensemble("twin", 1, precision="int8")


def test_without_its_file_auto_goes_on_in_float32(entered, home):
    path = data_folder() / "weights/tiny-int8.safetensors"
    kept = path.rename(path.with_suffix(".away"))
    passed = entered.int8.model_copy(update={"metric_change": 0.0})
    enter_precisions("tiny", entered.model_copy(update={"int8": passed}))
    try:
        assert "int8" not in open_ensemble("tiny", 1)[0].precisions
        with pytest.raises(LungboxError, match="or run with --precision float32"):
            open_ensemble("tiny", 1, precision="int8")
    finally:
        kept.rename(path)
        enter_precisions("tiny", entered)


def test_a_run_says_what_it_computed_in(entered, home, capfd, tmp_path):
    source = home / "data" / IMAGE_FOLDERS[0]
    for asked in ("int8", "float32"):
        output = tmp_path / asked
        code, _, err = run(
            capfd, "predict", source, "--ensemble", "tiny", "--precision", asked,
            "--output", output,
        )  # fmt: skip
        assert code == 0, err
        assert json.loads((output / "run.json").read_text())["precision"] == asked


def test_a_bundle_carries_it(entered, home, capfd, tmp_path, monkeypatch):
    code, _, err = run(capfd, "weights", "bundle", tmp_path / "bundle", "tiny")
    assert code == 0, err
    monkeypatch.setenv("LUNGBOX_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LUNGBOX_BUNDLE", str(tmp_path / "bundle"))
    job, _ = open_ensemble("tiny", 1, precision="int8")
    assert job.int8.path.parent == tmp_path / "bundle"
    assert start("openvino", job).predict(images(1)).masks.shape == (1, SIDE // 4, SIDE // 4, 2)


def test_a_damaged_file_is_refused(entered, home):
    path = data_folder() / "weights/tiny-int8.safetensors"
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    try:
        with pytest.raises(LungboxError, match="tiny-int8"):
            open_ensemble("tiny", 1, precision="int8")
    finally:
        path.write_bytes(kept)


def test_manifests_keep_what_they_say(entered, own_home):
    written = Precisions(
        members=("a" * 64,),
        shares=(1.0,),
        int8=Quantised(
            metric_change=0.0, same_count=1.0, sha256="b" * 64, bytes=5, sources=("https://a/b",)
        ),
    )
    enter_precisions("default", written)
    assert load_manifest().precisions["default"] == written
    assert written.passed() == ("int8", "float32")
