"""Graph files: OpenVINO's networks from weight files compute what Keras' conversion does."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from lungbox import architecture
from lungbox.engines import EngineConfig, Member, graphs, openvino
from lungbox.engines.graphs import (
    Graph,
    GraphFileError,
    load_graph,
    save_graph,
    structure,
    without_keras,
)
from lungbox.export.graphs import GraphError, make_graph, write_graph
from lungbox.inference.files import find_image_files
from lungbox.inference.predictor import open_ensemble
from lungbox.radiograph import prepare, read
from lungbox.weights.entries import Weights
from lungbox.weights.formats.safetensors import WeightsError, save_weights
from tests.small import registered


def predictions(config, images, monkeypatch, graph: bool):
    """By OpenVINO, from the graph file or converted by Keras."""
    with monkeypatch.context() as patched:
        if not graph:
            patched.setattr(openvino, "without_keras", lambda _: None)
        return openvino.OpenVinoEngine(config).predict(images)


@pytest.mark.slow
def test_the_default_has_a_graph_that_computes_the_same(examples, monkeypatch, tmp_path):
    """Of its networks as they are today: after a change of theirs, `make graphs` writes it anew."""
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path))
    config = open_ensemble("default", 4, precision="float32").config
    assert without_keras(config) is not None
    files = find_image_files(examples)[0][:4]
    images = np.stack([prepare(read(file.path).pixels, config.image_size) for file in files])
    ours = predictions(config, images, monkeypatch, graph=True)
    assert not (tmp_path / "openvino").exists()  # nothing was converted
    keras_ones = predictions(config, images, monkeypatch, graph=False)
    assert np.abs(ours.masks - keras_ones.masks).max() < 1e-4
    assert np.abs(ours.scores - keras_ones.scores).max() < 1e-5
    assert np.ptp(ours.scores) > 0.1


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two networks of different input sizes and shares of the mean, one in float16."""
    folder = tmp_path_factory.mktemp("pair")
    members = []
    for side, share, dtype in ((64, 0.3, "float32"), (32, 0.7, "float16")):
        keras.utils.set_random_seed(side)
        network = architecture.build("unet_lite0", side)
        random = np.random.default_rng(side)
        for variable in network.weights:
            if variable.path.endswith(("moving_mean", "beta", "bias")):
                variable.assign(random.normal(0, 0.1, variable.shape))
            elif variable.path.endswith(("moving_variance", "gamma")):
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
            elif variable.path == "mask_logits/kernel":
                variable.assign(5 * variable)  # masks that vary
        path = folder / f"{side}.safetensors"
        save_weights(network, path, dtype)
        weights = Weights(architecture="unet_lite0", image_size=side)
        members.append(Member(str(side), weights, path, share))
    return EngineConfig("pair", tuple(members), 2)


@pytest.mark.slow
def test_an_ensemble_of_several_sizes(pair, monkeypatch, tmp_path):
    monkeypatch.setenv("LUNGBOX_CACHE", str(tmp_path))
    monkeypatch.setattr(graphs, "shipped_checkpoints", lambda: tmp_path)
    config = replace(pair, gates=("32",), image_score="mask")
    assert without_keras(config) is None
    path = write_graph(config, tmp_path / graphs.FOLDER)
    assert path.stat().st_size < 60_000
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    ours = predictions(config, images, monkeypatch, graph=True)
    assert not (tmp_path / "openvino").exists()
    converted = predictions(config, images, monkeypatch, graph=False)
    assert np.abs(ours.masks - converted.masks).max() < 1e-4
    assert np.abs(ours.scores - converted.scores).max() < 1e-5
    assert np.ptp(ours.masks) > 0.05
    # Other weights of the same networks need no other graph.
    swapped = replace(config.members[1], path=config.members[0].path)
    others = predictions(
        replace(config, members=(config.members[0], swapped)), images, monkeypatch, graph=True
    )
    assert np.abs(others.masks - ours.masks).max() > 1e-3
    kept = replace(config, keep_members=True)
    assert without_keras(kept) is None


def test_the_key_is_that_of_what_affects_the_graph(pair):
    members = pair.members
    others = [
        replace(pair, members=members[::-1]),
        replace(pair, members=members[:1]),
        replace(pair, members=(replace(members[0], weight=0.4), members[1])),
        replace(pair, gates=("32",)),
        replace(pair, image_score="mask"),
    ]
    assert len({structure(config) for config in (pair, *others)}) == 6
    same = replace(pair, members=(replace(members[0], path=members[1].path), members[1]))
    assert structure(replace(same, batch_size=9, ensemble="other")) == structure(pair)


def test_weights_that_do_not_fit_are_left_to_keras(pair, monkeypatch, tmp_path):
    """More, fewer or larger variables than the graph's; damaged files, wherever the damage is."""
    monkeypatch.setattr(graphs, "shipped_checkpoints", lambda: tmp_path)
    path = tmp_path / graphs.FOLDER / f"{structure(pair)}.safetensors"
    path.parent.mkdir()
    shapes = tuple({"a/kernel": (2, 3)} for _ in pair.members)
    constant = graphs.Constant(8, 1, "value", "a/kernel", axes=(1, 0))
    graph = Graph(b"<net/>", 32, (constant,), shapes, ((0, b"12345678"),))
    path.write_bytes(save_graph(graph))
    assert load_graph(path) == graph
    fits = {"a/kernel": np.zeros((2, 3), np.float32)}
    for other in ({}, fits | {"b/bias": np.zeros(1, np.float32)}, {"a/kernel": np.zeros((2, 4))}):
        with pytest.raises(GraphFileError, match="other networks"):
            graph.fill([fits, other])
    assert without_keras(pair) is None  # its weights are a real network's
    content = path.read_bytes()
    for position in (3, 20, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:position] + b"\xff\xfe" + content[position + 2 :])
        with pytest.raises(GraphFileError, match=f"{path.name}: not a graph file, or damaged"):
            load_graph(path)
        assert without_keras(pair) is None
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"1234")
    members = tuple(replace(member, path=damaged) for member in pair.members)
    with pytest.raises(WeightsError, match=r"damaged\.safetensors: not a readable"):
        without_keras(replace(pair, members=members))


def test_a_network_whose_constants_have_no_rule_is_refused(tmp_path):
    """Its convolution and normalisation are not named as a pair."""
    with registered():
        weights = Weights(architecture="two_convolutions", image_size=64)
        member = Member("small", weights, tmp_path / "none.safetensors", 1.0)
        with pytest.raises(GraphError, match="small: no rule computes constant"):
            make_graph(EngineConfig("small", (member,), 1))
