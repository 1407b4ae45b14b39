"""Engines give the same answers, whatever the batch."""

import ctypes
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lungbox.datasets.phantom import draw
from lungbox.engines import EngineConfig, EngineError, Member, predict_with_tta, start
from lungbox.radiograph import resize_area
from tests.conftest import ROOT
from tests.tiny import SIDE, save_tiny, weights_of

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    found = []
    for seed, share in ((1, 0.75), (2, 0.25)):
        path = save_tiny(folder / f"{seed}.safetensors", seed)
        found.append(Member(f"tiny{seed}", weights_of(path), path, share))
    return tuple(found)


@pytest.fixture(scope="module")
def images():
    return np.stack([draw(SIDE, i % 3, np.random.default_rng(i)).pixels for i in range(3)])


@pytest.fixture(scope="module", params=["keras", "openvino"])
def engine(request, members):
    return start(request.param, EngineConfig("two", members, batch_size=4))


def test_shapes_and_types(engine, images):
    masks, scores, *_ = engine.predict(images)
    assert masks.shape == (3, SIDE // 4, SIDE // 4, 2)
    assert scores.shape == (3,)
    assert masks.dtype == scores.dtype == np.float32
    assert np.allclose(masks.sum(axis=-1), 1, atol=1e-5)


def test_an_image_has_the_same_answer_in_any_company(engine, images):
    masks, scores, *_ = engine.predict(images)
    for row in range(3):
        alone, score, *_ = engine.predict(images[row : row + 1])
        assert np.abs(alone[0] - masks[row]).max() < 1e-6
        assert abs(score[0] - scores[row]) < 1e-6


def test_results_are_not_overwritten_by_the_next_batch(engine, images):
    masks, *_ = engine.predict(images[:1])
    kept = masks.copy()
    engine.predict(images[1:])
    assert np.array_equal(masks, kept)


@pytest.mark.parametrize("side", [SIDE, SIDE // 2, 3 * SIDE // 2])
def test_openvino_and_keras_agree(members, images, side):
    """Also where a member reads images of another size, a half or two thirds of the largest."""
    first, second = members
    other_size = second.weights.model_copy(update={"image_size": side})
    config = EngineConfig("two", (first, replace(second, weights=other_size)), batch_size=4)
    images = np.stack(
        [resize_area(image, config.image_size, config.image_size) for image in images]
    )
    one, other = (start(name, config).predict(images) for name in ("keras", "openvino"))
    for first, second in ((one.masks, other.masks), (one.scores, other.scores)):
        assert np.abs(first - second).max() < 1e-5


def test_openvino_tells_nobody(tmp_path):
    """By itself it reports every import to Intel, through Google Analytics, and leaves an identity
    in the user's home folder."""
    program = "import lungbox.quantization.model, sys; print(sys.modules['openvino_telemetry'])"
    environment = os.environ | {"HOME": str(tmp_path), "CI": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "None\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["keras", "openvino"])
def test_the_members_own_masks(members, images, name):
    together = start(name, EngineConfig("two", members, batch_size=4, keep_members=True)).predict(
        images
    )
    assert together.members.shape == (3, 2, SIDE // 4, SIDE // 4, 2)
    for row, member in enumerate(members):
        alone = start(name, EngineConfig("one", (replace(member, weight=1.0),), batch_size=4))
        masks = alone.predict(images).masks
        assert np.abs(masks - together.members[:, row]).max() < 1e-5
    mean = 0.75 * together.members[:, 0] + 0.25 * together.members[:, 1]
    assert np.abs(mean - together.masks).max() < 1e-5


def test_mirrored_radiographs_are_averaged_in(members, images):
    config = EngineConfig("two", members, batch_size=4, keep_members=True)
    engine = start("keras", config)
    plain, mirrored = engine.predict(images), engine.predict(images[:, :, ::-1])
    both = predict_with_tta(start("keras", replace(config, flip=True)), images)
    assert np.abs(both.masks - (plain.masks + mirrored.masks[:, :, ::-1]) / 2).max() < 1e-6
    assert np.abs(both.scores - (plain.scores + mirrored.scores) / 2).max() < 1e-6
    assert np.abs(both.members - (plain.members + mirrored.members[..., ::-1, :]) / 2).max() < 1e-6
    again = predict_with_tta(start("keras", replace(config, flip=True)), images[:, :, ::-1])
    assert np.abs(again.masks[:, :, ::-1] - both.masks).max() < 1e-5


def test_a_network_is_converted_once(members, images, tmp_path, monkeypatch):
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path))
    config = EngineConfig("one", members[:1], batch_size=1)
    expected = start("openvino", config).predict(images[:1])[0]
    (converted,) = (tmp_path / "openvino").iterdir()

    def never(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr("lungbox.engines.openvino._convert", never)
    assert np.array_equal(start("openvino", config).predict(images[:1])[0], expected)
    assert [path.name for path in (tmp_path / "openvino").iterdir()] == [converted.name]


def test_others_who_share_the_cache_can_read_it(members, images, tmp_path, monkeypatch):
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path))
    config = EngineConfig("tiny", members, 4)
    start("openvino", config)
    (folder,) = (tmp_path / "openvino").iterdir()
    beside = tmp_path / "beside"
    beside.mkdir()
    assert folder.stat().st_mode == beside.stat().st_mode
    # What is left of it is no reason to stop.
    (folder / "network.xml").unlink()
    assert start("openvino", config).predict(images[:1]).scores.shape == (1,)


def test_auto_hands_on_what_openvino_says(members, monkeypatch):
    def full(*_):
        raise EngineError("give a smaller --batch-size")

    monkeypatch.setattr("lungbox.engines.openvino.OpenVinoEngine", full)
    with pytest.raises(EngineError, match="smaller --batch-size"):
        start("auto", EngineConfig("tiny", members, 4))


def test_what_no_engine_can_do(members):
    with pytest.raises(EngineError, match="there is no engine foo"):
        start("foo", EngineConfig("one", members[:1], batch_size=1))
    with pytest.raises(EngineError, match="at least one image"):
        start("auto", EngineConfig("one", members[:1], batch_size=0))


def test_without_openvino(members, monkeypatch):
    monkeypatch.setattr("lungbox.engines.find_spec", lambda name: None)
    config = EngineConfig("one", members[:1], batch_size=1)
    assert start("auto", config).name == "keras"
    with pytest.raises(EngineError, match="pip install openvino"):
        start("openvino", config)


@pytest.mark.skipif(sys.platform != "linux", reason="OpenVINO sets a signal stack on Linux only")
def test_signals_are_handled_on_the_threads_own_stack(members):
    """Ctrl-C under OpenVINO ended in a segmentation fault where AMX units were in use."""
    start("openvino", EngineConfig("two", members, batch_size=4))
    stack = (ctypes.c_void_p * 3)()  # pointer, flags, size
    assert ctypes.CDLL(None).sigaltstack(None, stack) == 0
    assert (stack[0], stack[1]) == (None, 2)
