"""`lungbox quantize` on phantoms: an INT8 model is made, registered, chosen and bundled."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from lungbox import architecture
from lungbox.boxes.geometry import as_boxes
from lungbox.cli import main
from lungbox.common.paths import data_folder
from lungbox.datasets.phantom import draw, write_rsna
from lungbox.datasets.rsna import IMAGE_FOLDERS
from lungbox.engines import (
    EngineConfig,
    EngineError,
    Int8,
    Member,
    describe_precision,
    start,
)
from lungbox.engines import openvino as openvino_engine
from lungbox.engines.openvino import converted, openvino
from lungbox.errors import LungboxError
from lungbox.inference.predictor import load, open_ensemble
from lungbox.quantization.model import agreement, quantize
from lungbox.quantization.parity import box_changes
from lungbox.weights.collection import INT8_FOLDER
from lungbox.weights.entries import Ensemble, PrecisionCheck, Weights
from lungbox.weights.formats.safetensors import save_weights
from lungbox.weights.manifest import (
    load_manifest,
    own_path,
    read_manifest,
    register_ensemble,
    register_precisions,
)
from lungbox.weights.store import precision_keys
from tests.small_detectors import registered_detectors
from tests.tiny import SIDE, enter_tiny


def run(capfd, *arguments):
    with pytest.raises(SystemExit) as ended:
        main.main([*map(str, arguments)])
    said = capfd.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """`tiny`, quantised with the command, its boxes checked on fold 0 of phantoms."""
    folder = tmp_path_factory.mktemp("quantised")
    patch = pytest.MonkeyPatch()
    patch.setenv("LUNGBOX_HOME", str(folder / "home"))
    enter_tiny(folder, network="unet_lite0")
    write_rsna(folder / "data", count=40, size=SIDE)
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def made(home):
    config, *_ = open_ensemble("tiny", 4, precision="float32")
    return quantize(converted(replace(config, keep_members=True)), images(12))


@pytest.fixture
def entered(home, capfd, monkeypatch, made):
    """The command itself, once; what is slow about it has been done. Gives the entry."""
    monkeypatch.setattr("lungbox.quantization.model.quantize", lambda *_: made)
    if not own():
        code, out, err = run(capfd, "quantize", "tiny", "--data", home / "data", "--images", 12)
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
        register_precisions(key, entered.model_copy(update=values))

    yield changed
    with pytest.MonkeyPatch.context() as patch:
        # The test may have gone to another machine.
        patch.setenv("LUNGBOX_HOME", str(home / "home"))
        register_precisions(key, entered)


@pytest.fixture
def vnni(tmp_path, monkeypatch):
    """A processor that adds up products of 8-bit integers exactly, and multiplies bfloat16."""
    cpu = tmp_path / "cpuinfo"
    monkeypatch.setattr(openvino_engine, "_CPU_INFO", cpu)

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


@pytest.mark.slow
def test_detectors_are_compared_by_their_boxes(tmp_path):
    """Of a network without a mask; a first convolution in 8 bits changes its boxes a little."""
    with registered_detectors():
        keras.utils.set_random_seed(5)
        path = tmp_path / "weights.safetensors"
        save_weights(architecture.build("small_retinanet", SIDE), path)
        weights = Weights(architecture="small_retinanet", image_size=SIDE, kind="detection")
        member = Member("small", weights, path, 1.0)
        found = quantize(converted(EngineConfig("small", (member,), 4)), images(6), [()])
    names = {output.get_any_name() for output in found.network.outputs}
    assert names == {"boxes_0", "scores_0", "image"}
    assert 0.5 < found.agreement < 1
    assert "FakeQuantize" in {one.get_type_name() for one in found.network.get_ordered_ops()}


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


def quantized(network, kind):
    """How many operations of a kind read what was quantised."""
    return sum(
        operation.input_value(0).get_node().get_type_name() == "FakeQuantize"
        for operation in network.get_ordered_ops()
        if operation.get_type_name() == kind
    )


@pytest.mark.slow
def test_kinds_of_operations_stay_in_float32(home, monkeypatch):
    monkeypatch.setattr("lungbox.quantization.model.MIN_AGREEMENT", 2.0)  # none is good enough
    network = converted(open_ensemble("tiny", 4, precision="float32")[0])
    found = [quantize(network, images(6), [kinds]) for kinds in ((), ("GroupConvolution",))]
    assert quantized(found[0].network, "GroupConvolution") > 10
    assert quantized(found[1].network, "GroupConvolution") == 0
    assert quantized(found[1].network, "Convolution") > 10
    best = quantize(network, images(6), [(), ("GroupConvolution",)])
    assert best.agreement == max(one.agreement for one in found)


def test_the_first_convolution_may_stay_alone(home):
    network = converted(open_ensemble("tiny", 4, precision="float32")[0])
    counts = [
        quantized(quantize(network, images(3), [kinds]).network, "Convolution")
        for kinds in ((), ("first Convolution",))
    ]
    assert counts[0] - counts[1] == 1


def test_a_check_of_another_machine_stays_known(entered, home, capfd, change):
    """This processor may not have bfloat16; what one that has it found out is not forgotten."""
    checked = PrecisionCheck(metric_change=0.002, same_count=0.99, images=364)
    change(bfloat16=checked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lungbox.quantization.run._engines", without_bfloat16)
        code, _, err = run(capfd, "quantize", "tiny", "--data", home / "data", "--images", 12)
    assert code == 0, err
    (entry,) = own().values()
    assert entry.bfloat16 == checked


def without_bfloat16(config, file):
    return {
        "float32": start("openvino", config),
        "int8": start("openvino", replace(config, precisions=("int8",), int8=file)),
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
    config, *_ = open_ensemble("tiny", 4, precision="int8")
    engine = start("openvino", config)
    assert engine.precision == "int8"
    exact = start("openvino", open_ensemble("tiny", 4, precision="float32")[0])
    ours, theirs = engine.predict(images(3)), exact.predict(images(3))
    assert ours.masks.shape == theirs.masks.shape
    assert np.abs(ours.masks - theirs.masks).max() > 0
    pairs = zip(ours.masks[..., 1], theirs.masks[..., 1], strict=True)
    assert np.mean([agreement(one, other) for one, other in pairs]) > 0.8
    with pytest.raises(EngineError, match="INT8 models run in OpenVINO only"):
        start("keras", config)


def test_its_members_can_be_asked_for(entered):
    config, *_ = open_ensemble("tiny", 4, keep_members=True, precision="int8")
    predicted = start("openvino", config).predict(images(2))
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
    checked = PrecisionCheck(metric_change=0.0, same_count=1.0, images=364)
    change(int8=passing(entered.int8, **int8), bfloat16=passing(checked, **bfloat16))
    config, *_ = open_ensemble("tiny", 4)
    assert openvino_engine.fastest(config.precisions) == expected


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [("avx512_vnni", "int8"), ("avx_vnni", "int8"), ("avx512bw", "float32"), ("", "float32")],
)
def test_auto_takes_integers_only_where_they_are_exact(
    entered, change, vnni, instructions, expected
):
    """And bfloat16 only with matrix units."""
    checked = PrecisionCheck(metric_change=0.0, same_count=1.0, images=364)
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
    register_ensemble("tiny", ensemble.model_copy(update=changed))
    try:
        assert open_ensemble("tiny", 1)[0].precisions == ("float32",)
        with pytest.raises(LungboxError, match="python -m lungbox quantize tiny --data DIR"):
            open_ensemble("tiny", 1, precision="int8")
    finally:
        register_ensemble("tiny", ensemble)


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
    same = describe_precision(start("openvino", open_ensemble("tiny", 1)[0]))
    assert same == "Computed in int8 by OpenVINO."
    register_ensemble("strict", load_manifest().ensembles["tiny"].model_copy(update=point))
    engine = start("openvino", open_ensemble("strict", 1)[0])
    assert engine.config.int8.sha256 == entered.int8.sha256
    assert describe_precision(engine) == (
        "Computed in int8 by OpenVINO; int8 was checked at another operating point."
    )
    assert open_ensemble("strict", 1, precision="int8")[0].int8 == engine.config.int8


def test_it_is_carried_along_by_that_ensemble(entered, capfd, tmp_path, monkeypatch):
    register_ensemble("strict", load_manifest().ensembles["tiny"].model_copy(update={"gate": 0.5}))
    code, out, err = run(capfd, "weights", "verify", "strict")
    assert (code, out.splitlines()[-1]) == (0, f"{entered.int8_name}: here"), err
    code, _, err = run(capfd, "weights", "bundle", tmp_path / "bundle", "strict")
    assert code == 0, err
    elsewhere(tmp_path, monkeypatch)
    config, point, _ = open_ensemble("strict", 1, precision="int8")
    assert config.int8.path.parent == tmp_path / "bundle"
    assert point.gate == 0.5


def test_a_detector_says_it(entered):
    detector = load("tiny", "openvino", precision="float32")
    assert detector.precision_note == "Computed in float32 by OpenVINO."


def test_the_default_with_another_gate_keeps_the_shipped_network(vnni, own_home):
    default = load_manifest().ensembles["default"]
    register_ensemble("strict", default.model_copy(update={"gate": 0.95}))
    ours, theirs = (open_ensemble(name, 1)[0] for name in ("strict", "default"))
    assert ours.precisions == theirs.precisions == ("int8", "bfloat16", "float32")
    assert ours.int8 == theirs.int8
    assert ours.int8.path.name == "lite0-int8.safetensors"


def test_everything_that_is_computed_decides_the_key(entered):
    config, *_ = open_ensemble("tiny", 4)
    (member,) = config.members

    def of(weight: float = 1.0, **changes: object) -> EngineConfig:
        weights = member.weights.model_copy(update=changes)
        return replace(config, members=(Member("tiny", weights, member.path, weight),))

    same = [replace(config, batch_size=1), replace(config, ensemble="other"), of()]
    assert {one.key for one in same} == {config.key}
    jobs = [
        replace(config, flip=True),
        replace(config, preparation="nearest"),
        replace(config, members=(*config.members, *config.members)),
        of(weight=0.5),
        of(image_size=2 * SIDE),
        of(architecture="unet_resnet152"),
        of(sha256="0" * 64),
        replace(config, gates=("tiny",)),
        replace(config, image_score="mask"),
    ]
    keys = [config.key, *(one.key for one in jobs)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "settings", [{}, {"gates": ("tiny",)}, {"flip": True}, {"image_score": "mask"}]
)
def test_weights_and_engines_agree_on_the_key(entered, settings):
    """So that `weights` finds the INT8 model which `predict` runs."""
    register_ensemble("other", load_manifest().ensembles["tiny"].model_copy(update=settings))
    key = open_ensemble("other", 1)[0].key
    manifest = load_manifest()
    manifest.precisions[key] = entered.model_copy(update={"ensemble": "others"})
    assert precision_keys(manifest, ["other"]) == {key}


CHECKED = PrecisionCheck(metric_change=0.0, same_count=1.0, images=364)
FAILED = PrecisionCheck(metric_change=-0.0103, same_count=0.9, images=364)
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
            "with as many boxes, 364 images); not bfloat16: not checked.",
        ),
    ],
)
def test_why_nothing_faster_is_said(entered, change, vnni, instructions, int8, bfloat16, expected):
    found = passing(entered.int8, **({} if int8 else vars(FAILED)))
    change(int8=found, bfloat16=bfloat16)
    vnni(instructions)
    assert describe_precision(start("openvino", open_ensemble("tiny", 1)[0])) == expected


def test_why_nothing_faster_is_said_by_keras(entered, change, vnni, monkeypatch):
    change(int8=passing(entered.int8), bfloat16=CHECKED)
    config, *_ = open_ensemble("tiny", 1)
    slower = (
        "not int8: it runs in OpenVINO only; "
        "not bfloat16: in Keras it is faster on GPUs only, and there is none."
    )
    assert describe_precision(start("keras", config)) == f"Computed in float32 by Keras; {slower}"
    monkeypatch.setattr("lungbox.engines.find_spec", lambda name: None)
    said = describe_precision(start("auto", config))
    assert said == f"Computed in float32 by Keras; not OpenVINO: it is not installed; {slower}"
    asked, *_ = open_ensemble("tiny", 1, precision="float32")
    said = describe_precision(start("auto", asked))
    assert said == "Computed in float32 by Keras; not OpenVINO: it is not installed."


def test_why_nothing_faster_is_said_of_what_nobody_has_checked(entered):
    register_ensemble("mirrored", Ensemble(members=("tiny",), flip=True))
    assert describe_precision(start("openvino", open_ensemble("mirrored", 1)[0])) == (
        "Computed in float32 by OpenVINO; not int8 or bfloat16: not checked for these weights: "
        "python -m lungbox quantize mirrored."
    )


def test_an_ensemble_nobody_has_quantised(entered):
    register_ensemble("twin", Ensemble(members=("tiny", "tiny"), min_area=0.0))
    assert open_ensemble("twin", 1)[0].precisions == ("float32",)
    with pytest.raises(LungboxError, match="twin as it is now has no INT8 model"):
        open_ensemble("twin", 1, precision="int8")


def test_a_precision_there_is_not():
    with pytest.raises(LungboxError, match="there is no precision int16; did you mean int8"):
        open_ensemble("default", 1, precision="int16")


def test_without_its_file_auto_goes_on_in_float32(entered, change, vnni):
    change(int8=passing(entered.int8))
    (path,) = (data_folder() / INT8_FOLDER).iterdir()
    kept = path.rename(path.with_suffix(".away"))
    try:
        config, *_ = open_ensemble("tiny", 1)
        assert "int8" not in config.precisions
        said = describe_precision(start("openvino", config))
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
    config, *_ = open_ensemble("tiny", 1, precision="float32")
    int8 = Int8(path, "0" * 64)
    either = replace(config, precisions=("int8", "float32"), int8=int8)
    engine = start("auto", either)
    assert engine.precision == "float32"
    assert f"; not int8: {path}: OpenVINO " in describe_precision(engine)
    assert describe_precision(engine).endswith("cannot read it.")
    with pytest.raises(LungboxError, match="cannot read it; use --precision float32"):
        start("openvino", replace(config, precisions=("int8",), int8=int8))


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
    config, *_ = open_ensemble("tiny", 1, precision="int8")
    assert config.int8.path.parent == tmp_path / "bundle"
    assert start("openvino", config).predict(images(1)).masks.shape == (1, SIDE // 4, SIDE // 4, 2)


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
    register_precisions(key, forgotten)
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
