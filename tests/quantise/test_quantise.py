"""`lungbox quantise` on phantoms: a network of 8-bit integers, entered, chosen, carried along."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from lungbox import cli
from lungbox.boxes.geometry import as_boxes
from lungbox.datasets.phantom import draw, write_rsna
from lungbox.datasets.rsna import IMAGE_FOLDERS
from lungbox.engines import EngineError, Int8, Job, Member, chosen, precision, start
from lungbox.engines.openvino import converted, openvino
from lungbox.errors import LungboxError
from lungbox.paths import data_folder
from lungbox.pipeline import load, open_ensemble
from lungbox.quantise.network import agreement, quantise
from lungbox.quantise.parity import box_changes
from lungbox.weights.collection import INT8_FOLDER
from lungbox.weights.entries import Checked
from lungbox.weights.manifest import (
    Ensemble,
    enter_ensemble,
    enter_precisions,
    load_manifest,
    own_path,
    read_manifest,
)
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
    """The command itself, once; what is slow about it has been done. Gives the entry."""
    monkeypatch.setattr("lungbox.quantise.network.quantise", lambda *_: made)
    if not own():
        code, out, err = run(capfd, "quantise", "tiny", "--data", home / "data", "--images", 12)
        assert code == 0, err
        table = [line for line in out.splitlines() if line.startswith("| ")][2:]
        rows = [line.split(" | ")[0] for line in table]
        assert rows[0] == "| float32"
        assert rows[-1] == "| int8"
        assert out.splitlines()[-1].startswith("int8: of ")
        assert "nan" not in out
    return next(iter(own().values()))


@pytest.fixture
def change(entered, home):
    """Changes the entry for one test."""
    (key,) = own()

    def changed(**values):
        enter_precisions(key, entered.model_copy(update=values))

    yield changed
    with pytest.MonkeyPatch.context() as patch:
        # The test may have gone to another machine.
        patch.setenv("LUNGBOX_HOME", str(home / "home"))
        enter_precisions(key, entered)


@pytest.fixture
def vnni(tmp_path, monkeypatch):
    """A processor that adds up products of 8-bit integers exactly, and multiplies bfloat16."""
    cpu = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "_CPU", cpu)

    def write(instructions):
        cpu.write_text(f"flags\t\t: fpu avx512_bf16 {instructions}\n")

    write("avx512_vnni amx_bf16")
    return write


def own():
    return read_manifest(own_path()).precisions


def passing(checked, **values):
    return checked.model_copy(
        update={"metric_change": 0.0, "same_count": 1.0, "images": 364} | values
    )


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


def quantised(network, kind):
    """How many operations of a kind read what was quantised."""
    return sum(
        operation.input_value(0).get_node().get_type_name() == "FakeQuantize"
        for operation in network.get_ordered_ops()
        if operation.get_type_name() == kind
    )


def test_kinds_of_operations_stay_in_float32(home, monkeypatch):
    monkeypatch.setattr("lungbox.quantise.network.LEAST_AGREEMENT", 2.0)  # none is good enough
    network = converted(open_ensemble("tiny", 4, precision="float32")[0])
    found = [quantise(network, images(6), [kinds]) for kinds in ((), ("GroupConvolution",))]
    assert quantised(found[0].network, "GroupConvolution") > 10
    assert quantised(found[1].network, "GroupConvolution") == 0
    assert quantised(found[1].network, "Convolution") > 10
    best = quantise(network, images(6), [(), ("GroupConvolution",)])
    assert best.agreement == max(one.agreement for one in found)


def test_the_first_convolution_may_stay_alone(home):
    network = converted(open_ensemble("tiny", 4, precision="float32")[0])
    counts = [
        quantised(quantise(network, images(3), [kinds]).network, "Convolution")
        for kinds in ((), ("first Convolution",))
    ]
    assert counts[0] - counts[1] == 1


def test_a_check_of_another_machine_stays_known(entered, home, capfd, change):
    """This processor may not have bfloat16; what one that has it found out is not forgotten."""
    checked = Checked(metric_change=0.002, same_count=0.99, images=364)
    change(bfloat16=checked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["lungbox.quantise.run"], "_engines", without_bfloat16)
        code, _, err = run(capfd, "quantise", "tiny", "--data", home / "data", "--images", 12)
    assert code == 0, err
    (entry,) = own().values()
    assert entry.bfloat16 == checked


def without_bfloat16(job, file):
    return {
        "float32": start("openvino", job),
        "int8": start("openvino", replace(job, precisions=("int8",), int8=file)),
    }


def test_what_is_entered_is_what_was_made(entered):
    (path,) = (data_folder() / INT8_FOLDER).iterdir()
    assert entered.ensemble == "tiny"
    assert entered.int8.bytes == path.stat().st_size
    assert entered.int8.sources == (f"file:{path.resolve()}",)
    assert entered.checked_on == "8 RSNA images of fold 0"
    assert entered.int8.images == 8
    assert not entered.int8.passed  # on so few


def test_engines_take_it_when_they_are_asked(entered):
    job, _ = open_ensemble("tiny", 4, precision="int8")
    engine = start("openvino", job)
    assert engine.precision == "int8"
    exact = start("openvino", open_ensemble("tiny", 4, precision="float32")[0])
    ours, theirs = engine.predict(images(3)), exact.predict(images(3))
    assert ours.masks.shape == theirs.masks.shape
    assert np.abs(ours.masks - theirs.masks).max() > 0
    pairs = zip(ours.masks[..., 1], theirs.masks[..., 1], strict=True)
    assert np.mean([agreement(one, other) for one, other in pairs]) > 0.8
    with pytest.raises(EngineError, match="8-bit integers run in OpenVINO alone"):
        start("keras", job)


def test_its_members_can_be_asked_for(entered):
    job, _ = open_ensemble("tiny", 4, keep_members=True, precision="int8")
    predicted = start("openvino", job).predict(images(2))
    assert np.array_equal(predicted.members[:, 0], predicted.masks)


@pytest.mark.parametrize(
    ("int8", "bfloat16", "expected"),
    [
        ({"metric_change": 0.001}, {}, "int8"),
        ({"metric_change": -0.0031}, {"metric_change": 0.003}, "bfloat16"),
        ({"same_count": 0.9}, {"same_count": 0.95}, "bfloat16"),
        ({"images": 99}, {"metric_change": -0.01}, "float32"),
    ],
)
def test_auto_takes_the_fastest_that_passed(entered, change, vnni, int8, bfloat16, expected):
    checked = Checked(metric_change=0.0, same_count=1.0, images=364)
    change(int8=passing(entered.int8, **int8), bfloat16=passing(checked, **bfloat16))
    job, _ = open_ensemble("tiny", 4)
    assert precision.fastest(job.precisions) == expected


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [("avx512_vnni", "int8"), ("avx_vnni", "int8"), ("avx512bw", "float32"), ("", "float32")],
)
def test_auto_takes_integers_only_where_they_are_exact(
    entered, change, vnni, instructions, expected
):
    """And bfloat16 only with matrix units."""
    checked = Checked(metric_change=0.0, same_count=1.0, images=364)
    change(int8=passing(entered.int8), bfloat16=checked)
    vnni(instructions)
    engine = start("openvino", open_ensemble("tiny", 4)[0])
    assert engine.precision == expected
    assert engine.predict(images(1)).masks.shape == (1, SIDE // 4, SIDE // 4, 2)


@pytest.mark.parametrize("changed", [{"flip": True}, {"preparation": "nearest"}])
def test_what_was_found_out_is_void_for_another_computation(entered, change, vnni, changed):
    """Differently prepared, mirrored."""
    change(int8=passing(entered.int8))
    ensemble = load_manifest().ensembles["tiny"]
    assert "int8" in open_ensemble("tiny", 1)[0].precisions
    enter_ensemble("tiny", ensemble.model_copy(update=changed))
    try:
        assert open_ensemble("tiny", 1)[0].precisions == ("float32",)
        with pytest.raises(LungboxError, match="python -m lungbox quantise tiny --data DIR"):
            open_ensemble("tiny", 1, precision="int8")
    finally:
        enter_ensemble("tiny", ensemble)


def test_how_boxes_differ_by_hand():
    """Files of 400 x 200: an edge that moves by 4 pixels across moves by 1 % of the side."""
    one, moved = as_boxes([(10, 20, 50, 60)]), as_boxes([(10, 20, 54, 60)])
    two = as_boxes([(10, 20, 50, 60), (200, 20, 250, 60)])
    lower = as_boxes([(200, 20, 250, 64), (10, 20, 50, 60)])  # in another order, 2 % down
    none = as_boxes([])
    pairs = [(none, none), (one, one), (one, moved), (two, lower), (two, one), (none, one)]
    exact, other = zip(*pairs, strict=True)
    found = box_changes(exact, other, [(400, 200)] * len(pairs))
    assert (found.images, found.identical, found.other_number) == (5, 1, 2)
    assert found.moved == pytest.approx(np.percentile([0, 0.01, 0.02], 95))
    assert np.isnan(box_changes([none], [none], [(4, 2)]).moved)


POINTS = (
    {"gate": 0.5},
    {"min_area": 0.1, "shrink": 0.1},
    {"rule": "threshold", "threshold": 0.4},
    {"compatibility": "reference"},
)


@pytest.mark.parametrize("point", POINTS, ids=lambda point: next(iter(point)))
def test_an_ensemble_that_only_decides_otherwise_keeps_its_network(entered, change, vnni, point):
    """Also under another name; it is said that the check was made at another point."""
    change(int8=passing(entered.int8))
    assert entered.checked_at == load_manifest().ensembles["tiny"].point
    same = chosen(start("openvino", open_ensemble("tiny", 1)[0]))
    assert same == "Computed in int8 by OpenVINO."
    enter_ensemble("strict", load_manifest().ensembles["tiny"].model_copy(update=point))
    engine = start("openvino", open_ensemble("strict", 1)[0])
    assert engine.job.int8.sha256 == entered.int8.sha256
    assert chosen(engine) == (
        "Computed in int8 by OpenVINO; int8 was checked at another operating point."
    )
    assert open_ensemble("strict", 1, precision="int8")[0].int8 == engine.job.int8


def test_it_is_carried_along_by_that_ensemble(entered, capfd, tmp_path, monkeypatch):
    enter_ensemble("strict", load_manifest().ensembles["tiny"].model_copy(update={"gate": 0.5}))
    code, out, err = run(capfd, "weights", "verify", "strict")
    assert (code, out.splitlines()[-1]) == (0, f"{entered.int8_name}: here"), err
    code, _, err = run(capfd, "weights", "bundle", tmp_path / "bundle", "strict")
    assert code == 0, err
    elsewhere(tmp_path, monkeypatch)
    job, point = open_ensemble("strict", 1, precision="int8")
    assert job.int8.path.parent == tmp_path / "bundle"
    assert point.gate == 0.5


def test_a_detector_says_it(entered):
    detector = load("tiny", "openvino", precision="float32")
    assert detector.chosen == "Computed in float32 by OpenVINO."


def test_the_default_with_another_gate_keeps_the_shipped_network(vnni, own_home):
    default = load_manifest().ensembles["default"]
    enter_ensemble("strict", default.model_copy(update={"gate": 0.95}))
    ours, theirs = (open_ensemble(name, 1)[0] for name in ("strict", "default"))
    assert ours.precisions == theirs.precisions == ("int8", "bfloat16", "float32")
    assert ours.int8 == theirs.int8
    assert ours.int8.path.name == "lite0-int8.safetensors"


def test_everything_that_is_computed_decides_the_key(entered):
    job, _ = open_ensemble("tiny", 4)
    (member,) = job.members

    def of(share: float = 1.0, **facts: object) -> Job:
        weights = member.weights.model_copy(update=facts)
        return replace(job, members=(Member("tiny", weights, member.path, share),))

    same = [replace(job, batch_size=1), replace(job, ensemble="other"), of()]
    assert {one.key for one in same} == {job.key}
    jobs = [
        replace(job, flip=True),
        replace(job, preparation="nearest"),
        replace(job, members=(*job.members, *job.members)),
        of(share=0.5),
        of(image_size=2 * SIDE),
        of(architecture="unet_resnet152"),
        of(sha256="0" * 64),
    ]
    keys = [job.key, *(one.key for one in jobs)]
    assert len(set(keys)) == len(keys)


CHECKED = Checked(metric_change=0.0, same_count=1.0, images=364)
FAILED = Checked(metric_change=-0.0103, same_count=0.9, images=364)
NO_VNNI = "not int8: this processor cannot add up 8-bit products exactly (no VNNI)"
NO_AMX = "not bfloat16: this processor has no matrix units for it (no AMX)"


@pytest.mark.parametrize(
    ("instructions", "int8", "bfloat16", "expected"),
    [
        ("avx_vnni", True, CHECKED, "Computed in int8 by OpenVINO."),
        ("avx_vnni", True, None, "Computed in int8 by OpenVINO."),
        ("avx2", True, CHECKED, f"Computed in float32 by OpenVINO; {NO_VNNI}; {NO_AMX}."),
        (
            "avx2",
            False,
            FAILED,
            "Computed in float32 by OpenVINO; not int8: its check failed (metric -0.0103, 90.0% "
            "with as many boxes, 364 images); not bfloat16: its check failed (metric -0.0103, "
            "90.0% with as many boxes, 364 images).",
        ),
        (
            "",
            False,
            None,
            "Computed in float32 by OpenVINO; not int8: its check failed (metric -0.0103, 90.0% "
            "with as many boxes, 364 images); not bfloat16: nobody has checked it.",
        ),
    ],
)
def test_why_nothing_faster_is_said(entered, change, vnni, instructions, int8, bfloat16, expected):
    found = passing(entered.int8, **({} if int8 else vars(FAILED)))
    change(int8=found, bfloat16=bfloat16)
    vnni(instructions)
    assert chosen(start("openvino", open_ensemble("tiny", 1)[0])) == expected


def test_why_nothing_faster_is_said_by_keras(entered, change, vnni, monkeypatch):
    change(int8=passing(entered.int8), bfloat16=CHECKED)
    job, _ = open_ensemble("tiny", 1)
    slower = (
        "not int8: it runs in OpenVINO alone; "
        "not bfloat16: Keras sees no GPU, and is faster so only on one."
    )
    assert chosen(start("keras", job)) == f"Computed in float32 by Keras; {slower}"
    monkeypatch.setattr("lungbox.engines.find_spec", lambda name: None)
    said = chosen(start("auto", job))
    assert said == f"Computed in float32 by Keras; not OpenVINO: it is not installed; {slower}"
    asked, _ = open_ensemble("tiny", 1, precision="float32")
    said = chosen(start("auto", asked))
    assert said == "Computed in float32 by Keras; not OpenVINO: it is not installed."


def test_why_nothing_faster_is_said_of_what_nobody_has_checked(entered):
    enter_ensemble("mirrored", Ensemble(members=("tiny",), flip=True))
    assert chosen(start("openvino", open_ensemble("mirrored", 1)[0])) == (
        "Computed in float32 by OpenVINO; not int8 or bfloat16: not checked for these weights: "
        "python -m lungbox quantise mirrored."
    )


def test_an_ensemble_nobody_has_quantised(entered):
    enter_ensemble("twin", Ensemble(members=("tiny", "tiny"), min_area=0.0))
    assert open_ensemble("twin", 1)[0].precisions == ("float32",)
    with pytest.raises(LungboxError, match="twin as it is now is not there in 8-bit integers"):
        open_ensemble("twin", 1, precision="int8")


def test_a_precision_there_is_not():
    with pytest.raises(LungboxError, match="there is no precision int16; did you mean int8"):
        open_ensemble("default", 1, precision="int16")


def test_without_its_file_auto_goes_on_in_float32(entered, change, vnni):
    change(int8=passing(entered.int8))
    (path,) = (data_folder() / INT8_FOLDER).iterdir()
    kept = path.rename(path.with_suffix(".away"))
    try:
        job, _ = open_ensemble("tiny", 1)
        assert "int8" not in job.precisions
        said = chosen(start("openvino", job))
        assert said.startswith("Computed in float32 by OpenVINO; not int8: the weights tiny-int8-")
        assert f"{path}: there is no such file" in said
        with pytest.raises(LungboxError, match="or run with --precision float32"):
            open_ensemble("tiny", 1, precision="int8")
    finally:
        kept.rename(path)


def test_a_file_this_openvino_cannot_read(entered, tmp_path, vnni):
    """Asked for, it is said; not asked for, the run goes on in float32."""
    path = tmp_path / "other.safetensors"
    save_file({"xml": np.zeros(9, np.uint8), "bin": np.zeros(9, np.uint8)}, path)
    job, _ = open_ensemble("tiny", 1, precision="float32")
    int8 = Int8(path, "0" * 64)
    either = replace(job, precisions=("int8", "float32"), int8=int8)
    engine = start("auto", either)
    assert engine.precision == "float32"
    assert f"; not int8: {path}: OpenVINO " in chosen(engine)
    assert chosen(engine).endswith("cannot read it.")
    with pytest.raises(LungboxError, match="cannot read it; use --precision float32"):
        start("openvino", replace(job, precisions=("int8",), int8=int8))


def test_a_damaged_file_is_refused(entered):
    (path,) = (data_folder() / INT8_FOLDER).iterdir()
    kept = path.read_bytes()
    path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    try:
        with pytest.raises(LungboxError, match="tiny-int8"):
            open_ensemble("tiny", 1, precision="int8")
    finally:
        path.write_bytes(kept)


def test_a_run_says_what_it_computed_in(entered, home, capfd, tmp_path):
    source = home / "data" / IMAGE_FOLDERS[0]
    for asked, digest in (("int8", entered.int8.sha256), ("float32", None)):
        output = tmp_path / asked
        code, _, err = run(
            capfd, "predict", source, "--ensemble", "tiny", "--precision", asked,
            "--output", output,
        )  # fmt: skip
        assert code == 0, err
        record = json.loads((output / "run.json").read_text())
        assert (record["precision"], record["int8_sha256"]) == (asked, digest)
        assert record["chosen"] == f"Computed in {asked} by OpenVINO."
        assert f"{record['chosen']}\n" in err


def test_a_bundle_carries_it(entered, capfd, tmp_path, monkeypatch):
    code, _, err = run(capfd, "weights", "bundle", tmp_path / "bundle", "tiny")
    assert code == 0, err
    elsewhere(tmp_path, monkeypatch)
    job, _ = open_ensemble("tiny", 1, precision="int8")
    assert job.int8.path.parent == tmp_path / "bundle"
    assert start("openvino", job).predict(images(1)).masks.shape == (1, SIDE // 4, SIDE // 4, 2)


def test_a_bundle_without_it(entered, change, capfd, tmp_path, monkeypatch):
    """Everything runs without: a network that cannot be had does not stop a bundle."""
    change(int8=passing(entered.int8, sources=("file:/not/there",)))
    code, _, err = run(capfd, "weights", "bundle", tmp_path / "bundle", "tiny")
    assert code == 0, err
    elsewhere(tmp_path, monkeypatch)
    assert open_ensemble("tiny", 1)[0].precisions == ("float32",)


def elsewhere(tmp_path, monkeypatch):
    """Another machine, with the bundle."""
    monkeypatch.setenv("LUNGBOX_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LUNGBOX_BUNDLE", str(tmp_path / "bundle"))


def test_the_weights_commands_know_it(entered, change, capfd):
    (key,), (path,) = own(), (data_folder() / INT8_FOLDER).iterdir()
    kept = path.read_bytes()
    for command in (("list",), ("verify",), ("fetch", "tiny")):
        _, out, err = run(capfd, "weights", *command)
        assert "tiny-int8" in out + err
    _, _, err = run(capfd, "weights", "remove", "default")
    assert own()
    forgotten = load_manifest().precisions[key].model_copy(update={"ensemble": "default"})
    enter_precisions(key, forgotten)
    _, _, err = run(capfd, "weights", "remove", "default")
    assert err == "default: entry removed, 1 file removed\n"
    assert not own()
    assert not path.exists()
    path.write_bytes(kept)


def test_one_engine_for_several_threads(entered):
    engine = start("openvino", open_ensemble("tiny", 2, precision="float32")[0])
    batches = [images(6)[i : i + 2] for i in (0, 2, 4)] * 10
    expected = [engine.predict(batch).masks for batch in batches[:3]] * 10
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda batch: engine.predict(batch).masks, batches))
    assert all(map(np.array_equal, found, expected))
