"""`lungbox export`: files that other runtimes run, and what is rejected."""

import json
import re
from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
import typer
from safetensors.numpy import save_file
from typer.testing import CliRunner

from lungbox.boxes import OperatingPoint, decide
from lungbox.cli import export as cli_export
from lungbox.datasets.phantom import draw
from lungbox.engines import BatchPrediction, EngineConfig, Member, start
from lungbox.errors import LungboxError
from lungbox.export import FORMATS, ExportError, export
from lungbox.export import verify as verification
from lungbox.export.convert import write
from lungbox.export.runtimes import Runner, open_file
from lungbox.inference.predictor import open_ensemble
from lungbox.radiograph import prepare
from lungbox.radiograph.prepare import resize_nearest
from lungbox.weights.entries import Ensemble, Weights
from lungbox.weights.formats.safetensors import read_tensors
from lungbox.weights.manifest import register
from lungbox.weights.store import sha256
from tests.conftest import ROOT
from tests.small import registered
from tests.tiny import SIDE, save_tiny, weights_of

pytestmark = pytest.mark.usefixtures("small_networks")

# No multiple of the other member's.
LARGE = 96
SNIPPETS = dict(
    re.findall(
        r"<!-- snippet: (\w+) -->\n```python\n(.*?)```",
        (ROOT / "docs/export.md").read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
)


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """`tiny` reads 64 px; `two` are `tiny` and one of 96 px, in unequal shares."""
    folder = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    patch.setenv("LUNGBOX_HOME", str(folder))
    enter_varied(folder, "tiny", SIDE, members=("tiny",))
    enter_varied(
        folder, "two", LARGE, members=("tiny", "two"), weights=(1, 3), rule="threshold", flip=True
    )
    yield folder
    patch.undo()


def enter_varied(folder, name, side, **ensemble):
    """A tiny network whose masks go from little to much, so that equal masks say something."""
    path = save_tiny(folder / f"{name}.safetensors", seed=1 if side == SIDE else 3)
    tensors = read_tensors(path)
    tensors["mask_logits/kernel"] *= 0.3
    save_file(tensors, path)
    weights = weights_of(path, side, trained_on="nothing", licence="none at all")
    register(name, weights, Ensemble(**({"min_area": 0.0} | ensemble)))


@pytest.fixture(scope="module", params=FORMATS)
def exported(request, home, tmp_path_factory):
    """The ensemble `two` in each format, under the name that the documentation uses."""
    folder = tmp_path_factory.mktemp(request.param)
    ending = FORMATS[request.param].ending
    return request.param, export("two", request.param, folder / f"default{ending}")


@pytest.fixture(scope="module")
def keras_engine():
    """The ensemble `two` in Keras, without test-time augmentation."""
    config, *_ = open_ensemble("two", 5)
    return start("keras", replace(config, flip=False))


def chests(count, side):
    return np.stack([draw(side, i % 3, np.random.default_rng(i)).pixels for i in range(count)])


def test_members_of_different_sizes_in_one_file(exported, keras_engine):
    form, made = exported
    assert made.images == 8
    assert 0 <= made.difference <= 1e-4
    images = chests(5, LARGE)
    found = Runner(form, keras_engine.config, open_file(form, made.path), None).predict(images)
    expected = keras_engine.predict(images)
    assert np.abs(found.masks - expected.masks).max() < 1e-4
    assert np.abs(found.scores - expected.scores).max() < 1e-4
    assert np.ptp(expected.masks) > 0.3  # or equality would say nothing
    assert sorted(path.name for path in made.path.parent.iterdir()) == sorted(
        [made.path.name, made.metadata.name]
    )


def test_the_documents_snippet_runs_the_file(exported, keras_engine, monkeypatch):
    form, made = exported
    monkeypatch.chdir(made.path.parent)
    pixels = draw(200, 2, np.random.default_rng(0)).pixels[:, :180].copy()
    cv2.imwrite("radiograph.png", pixels)
    known = {}
    for name in ("prepare", form):
        assert "import lungbox" not in SNIPPETS[name]
        assert "from lungbox" not in SNIPPETS[name]
        exec(SNIPPETS[name].replace("256)", f"{LARGE})"), known)
    expected = keras_engine.predict(prepare(pixels, LARGE)[None])
    assert np.abs(known["mask"] - expected.masks).max() < 1e-4
    assert np.abs(known["image"][:, 0] - expected.scores).max() < 1e-4
    assert known["metadata"] == json.loads(made.metadata.read_text())
    exec(SNIPPETS["boxes"].replace("1024, 1024", "180, 200"), known)
    _, point, _ = open_ensemble("two", 1)
    boxes = decide(expected.image(0), (180, 200), point).boxes
    assert len(boxes) > 0
    assert verification.same_boxes(known["boxes"], boxes)
    (made.path.parent / "radiograph.png").unlink()


def test_the_metadata(exported, home):
    _, made = exported
    metadata = json.loads(made.metadata.read_text())
    assert metadata["name"] == "two"
    assert metadata["input"]["shape"] == [None, LARGE, LARGE, 1]
    assert metadata["labels"] == ["background", "lung opacity"]
    assert metadata["preparation"]["name"] == "equalised"
    assert metadata["preparation"]["image_size"] == LARGE
    point = dict(metadata["operating_point"])
    assert point.pop("flip") is True
    assert OperatingPoint(**point) == open_ensemble("two", 1)[1]
    first, second = metadata["members"]
    assert (first["weights"], first["share"], first["image_size"]) == ("tiny", 0.25, SIDE)
    assert second["sha256"] == sha256(home / "two.safetensors")
    assert (second["licence"], second["trained_on"]) == ("none at all", "nothing")
    assert "Not a medical device" in metadata["use"]


@pytest.mark.parametrize("shape", [(300, 200), (50, 200), (200, 50), (40, 30), (64, 64)])
def test_the_documents_preparation_is_ours(shape):
    known, pixels = {}, np.random.default_rng(3).integers(20, 180, shape).astype(np.uint8)
    exec(SNIPPETS["prepare"].partition("\n\n\nradiograph")[0], known)
    assert np.array_equal(known["prepare"](pixels, SIDE), prepare(pixels, SIDE))
    assert np.array_equal(known["prepare"](pixels * 0, SIDE), prepare(pixels * 0, SIDE))
    exec(SNIPPETS["nearest"], known)
    assert np.array_equal(known["prepare"](pixels, SIDE), resize_nearest(pixels, SIDE, SIDE))


def test_a_fixed_batch_through_the_command(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    output = tmp_path / "new" / "tiny.onnx"
    arguments = ["tiny", "--format", "onnx", "--batch-size", "3", "--output", str(output)]
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [3, SIDE, SIDE, 1]
    assert json.loads((tmp_path / "new/tiny.onnx.json").read_text())["input"]["shape"][0] == 3
    with pytest.raises(ExportError, match="exists already"):
        export("tiny", "onnx", output)


def run(*arguments):
    app = typer.Typer()
    app.command()(cli_export.export)
    return CliRunner().invoke(app, arguments)


def test_bad_requests(tmp_path, monkeypatch):
    with pytest.raises(LungboxError, match="there is no format onix; did you mean onnx"):
        export("tiny", "onix", tmp_path / "x")
    with pytest.raises(LungboxError, match="at least one image, not 0"):
        export("tiny", "onnx", tmp_path / "x", 0)
    with pytest.raises(LungboxError, match="no ensemble is called tini; did you mean tiny"):
        export("tini", "onnx", tmp_path / "x")
    done = run("tiny", "--format", "onnx", "--batch-size", "x")
    assert "use a number, or dynamic" in str(done.exception)
    monkeypatch.setattr("lungbox.export.types.find_spec", lambda name: name != "tf2onnx" or None)
    with pytest.raises(LungboxError, match=r"ONNX needs tf2onnx: pip install 'lungbox\[export\]'"):
        export("tiny", "onnx", tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["onnx", "openvino", "litert"])
def test_other_formats_than_savedmodel_are_refused_from_jax(form, tmp_path, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    with pytest.raises(ExportError, match="Keras runs on jax"):
        export("tiny", form, tmp_path / "x")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda found: {**found, "mask": found["mask"] + 2e-4}, "masks that differ .* by 0.0002"),
        (lambda found: {**found, "mask": found["mask"] * np.nan}, "masks that differ .* by nan"),
        (lambda found: {**found, "image": found["image"] - 1e-3}, "predicts scores that differ"),
        (lambda found: {**found, "mask": found["mask"][:, 1:]}, "masks of shape"),
    ],
)
def test_a_file_that_differs_is_not_kept(spoil, sentence, tmp_path, monkeypatch):
    config, *_ = open_ensemble("tiny", 8)
    engine = start("keras", config)

    def spoilt(*_):
        def run(images):
            found = engine.predict(images[..., 0])
            return spoil({"mask": found.masks, "image": found.scores[:, None]})

        return run

    monkeypatch.setattr("lungbox.export.convert.write", lambda form, n, path, *_: path.touch())
    monkeypatch.setattr("lungbox.export.runtimes.open_file", spoilt)
    with pytest.raises(ExportError, match=sentence):
        export("tiny", "onnx", tmp_path / "deep" / "tiny.onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_no_converter_knows_gets_a_sentence(tmp_path, monkeypatch):
    def fails(*_):
        raise ValueError("no such operation\nand much more")

    monkeypatch.setattr("lungbox.export.convert.write", fails)
    with pytest.raises(
        ExportError, match=r"tiny cannot be exported to LiteRT \(no such operation\)"
    ):
        export("tiny", "litert", tmp_path / "tiny.tflite")
    assert not list(tmp_path.iterdir())


def test_a_file_its_runtime_cannot_run_gets_a_sentence(tmp_path, monkeypatch):
    def breaks(_):
        raise RuntimeError("no kernel\nat 0x0")

    monkeypatch.setattr("lungbox.export.convert.write", lambda form, n, path, *_: path.touch())
    monkeypatch.setattr("lungbox.export.runtimes.open_file", lambda *_: breaks)
    with pytest.raises(ExportError, match=r"tiny cannot be exported to ONNX \(no kernel\)"):
        export("tiny", "onnx", tmp_path / "tiny.onnx")
    assert not list(tmp_path.iterdir())


class _Engine:
    def __init__(self, masks, scores):
        self.name, self.config = "it", EngineConfig("x", (), 1)
        self.outputs = (masks, scores, None)

    def predict(self, images):
        return BatchPrediction(*self.outputs)


def test_other_boxes_of_nearly_the_same_masks_are_refused():
    masks = np.zeros((1, 8, 8, 2), np.float32)
    masks[0, 2:6, 2:6] = 0.5
    other = masks.copy()
    other[0, 2:6, 2] = 0.49995  # below the threshold, and less than the tolerance away
    scores, images = np.zeros(1, np.float32), np.zeros((1, 8, 8), np.uint8)
    point = OperatingPoint(gate=0.9)
    same = verification.compare(
        _Engine(masks, scores), _Engine(masks.copy(), scores), images, [(80, 80)], point
    )
    assert same == 0
    with pytest.raises(ExportError, match=r"other boxes than Keras on radiograph 1 \(1 and 1\)"):
        verification.compare(
            _Engine(masks, scores), _Engine(other, scores), images, [(80, 80)], point
        )


def test_radiographs_are_real_ones_or_drawn(monkeypatch, tmp_path):
    path = tmp_path / "none"
    member = Member("m", Weights(architecture="unet_lite0", image_size=SIDE), path, 1.0)
    config = EngineConfig("x", (member,), 1)
    real, sizes = verification.radiographs(config)
    assert real.shape == (8, SIDE, SIDE)
    assert min(min(size) for size in sizes) > 500
    monkeypatch.setattr(verification, "shipped_checkpoints", lambda: tmp_path / "checkpoints")
    drawn, sizes = verification.radiographs(config)
    assert drawn.shape == (8, SIDE, SIDE)
    assert not np.array_equal(real, drawn)
    assert len(sizes) == 8


@pytest.mark.parametrize("batch", [None, 2])
def test_onnx_holds_no_more_than_the_radiographs_need(tmp_path, batch):
    """A layer with constants of its own, a normalisation, an upsampling: as the four have them."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    radiograph = keras.Input((SIDE, SIDE, 1), name="radiograph")
    x = keras.layers.Concatenate()([radiograph] * 3)
    x = keras.layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[3000.0] * 3)(x)
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization(gamma_initializer="random_normal")(x)
    x = keras.layers.Conv2DTranspose(2, 3, strides=2, padding="same")(keras.layers.ReLU()(x))
    image = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(radiograph, {"mask": keras.layers.Softmax()(x), "image": image})
    write("onnx", model, tmp_path / "network.onnx", batch, "{}")
    graph = onnx.load(tmp_path / "network.onnx").graph
    assert [entry.name for entry in graph.input] == ["radiograph"]
    operations = [node.op_type for node in graph.node]
    assert operations.count("Conv") == operations.count("ConvTranspose") == 1
    assert not {"BatchNormalization", "Sqrt", "Reciprocal"} & set(operations)
    images = chests(2, SIDE)[..., None]
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    mask, image = session.run(["mask", "image"], {"radiograph": images})
    expected = model.predict_on_batch(images)
    assert np.abs(mask - expected["mask"]).max() < 1e-5
    assert np.abs(image - expected["image"]).max() < 1e-5
    assert np.ptp(expected["mask"]) > 0.01


@pytest.mark.long("converts a real network four times")
@pytest.mark.release
@pytest.mark.parametrize("form", FORMATS)
def test_the_default_weights(form, tmp_path):
    made = export("default", form, tmp_path / f"default{FORMATS[form].ending}")
    assert made.images == 8
    assert made.difference < 1e-4
    assert "research and education only" in made.metadata.read_text()


@pytest.mark.slow
def test_a_savedmodel_from_jax(home, tmp_path, other_backend):
    assert other_backend.name == "jax"
    images, difference = other_backend.call(exported_from, home, tmp_path / "saved")
    assert images == 8
    assert difference < 1e-4


def exported_from(home, path):
    """Export the ensemble `two` of the manifest in `home` as a SavedModel."""
    with pytest.MonkeyPatch.context() as patch, registered():
        patch.setenv("LUNGBOX_HOME", str(home))
        made = export("two", "savedmodel", path)
    return made.images, made.difference
