"""Keras 2 weight files: the published networks' own outputs, and nothing else HDF5 can do."""

import h5py
import keras
import numpy as np
import pytest

from lungbox import architecture
from lungbox.weights.formats.keras2 import load_keras2
from lungbox.weights.formats.safetensors import WeightsError
from tests import reference

CLOSE = 1e-4
PARAMETERS = dict(
    zip(reference.NETWORKS, (21_806_082, 16_410_306, 29_424_802, 18_959_938), strict=True)
)


def published(name):
    """Gray input in 0-255 and the published output."""
    with np.load(reference.FOLDER / f"{name}.npz") as kept:
        return (kept["x"][..., :1] + 1) * 127.5, kept["y"]


@pytest.mark.parametrize("name", reference.NETWORKS)
def test_published_networks(tmp_path, name):
    network = architecture.build(name)
    assert network.count_params() == PARAMETERS[name]
    load_keras2(network, reference.write_h5(name, tmp_path / "w.h5", first=37))
    images, expected = published(name)
    mask = keras.ops.convert_to_numpy(network(images, training=False)["mask"])
    assert np.abs(mask - expected).max() < CLOSE


@pytest.mark.long("XLA compiles networks of a hundred layers")
@pytest.mark.parametrize("name", reference.NETWORKS)
def test_published_networks_on_the_other_backend(tmp_path, name, other_backend):
    path = reference.write_h5(name, tmp_path / "w.h5")
    images, expected = published(name)
    mask = other_backend.call(mask_of, name, path, images)
    assert np.abs(mask - expected).max() < CLOSE


def mask_of(name, path, images):
    """What the network `name` with the weights of a Keras 2 file says of images."""
    network = architecture.build(name)
    load_keras2(network, path)
    return keras.ops.convert_to_numpy(network(images, training=False)["mask"])


def network(units=3):
    inputs = keras.Input((4,))
    x = keras.layers.Activation("relu")(keras.layers.Dense(units, name="first")(inputs))
    return keras.Model(inputs, keras.layers.Dense(1, name="second")(x), name="small")


WEIGHTS = {
    "dense_7": {"kernel": np.arange(12.0).reshape(4, 3), "bias": np.ones(3)},
    "activation_2": {},
    "dense_9": {"kernel": np.full((3, 1), 2.0), "bias": np.zeros(1)},
}


def write(path, layers=None, root="", chunk=None):
    """A file of `layers`, as Keras 2 writes it."""
    layers = WEIGHTS if layers is None else layers
    with h5py.File(path, "w") as file:
        top = file.create_group(root) if root else file
        reference._write_names(top.attrs, "layer_names", list(layers), chunk)
        for layer, weights in layers.items():
            group = top.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in weights]
            for name, values in weights.items():
                group.create_dataset(f"{layer}/{name}:0", data=values.astype(np.float32))
    return path


@pytest.mark.parametrize("options", [{}, {"root": "model_weights"}, {"chunk": 1}])
def test_small_files(tmp_path, options):
    model = network()
    load_keras2(model, write(tmp_path / "w.h5", **options))
    assert np.array_equal(model.get_layer("first").kernel.numpy(), WEIGHTS["dense_7"]["kernel"])
    assert np.array_equal(model.get_layer("second").kernel.numpy(), [[2], [2], [2]])


def test_what_keras_3_writes_in_the_same_format_is_read(tmp_path):
    """Keras 3 can still save the legacy format: another writer than this file's."""
    from keras.src.legacy.saving import legacy_h5_format

    model = network()
    with h5py.File(tmp_path / "w.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    other = network()
    load_keras2(other, tmp_path / "w.h5")
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        assert np.array_equal(ours.numpy(), theirs.numpy())


def test_the_first_mismatch_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"dense_7/kernel:0 has shape \(4, 3\), first/kernel"):
        load_keras2(network(5), write(tmp_path / "w.h5"))


def test_nothing_is_loaded_where_anything_differs(tmp_path):
    wrong = {**WEIGHTS, "dense_9": {"kernel": np.zeros((9, 9)), "bias": np.zeros(1)}}
    model = network()
    before = model.get_layer("first").kernel.numpy().copy()
    with pytest.raises(WeightsError, match="dense_9"):
        load_keras2(model, write(tmp_path / "w.h5", wrong))
    assert np.array_equal(model.get_layer("first").kernel.numpy(), before)


def test_layers_too_few_or_too_many(tmp_path):
    fewer = {"dense_7": WEIGHTS["dense_7"]}
    with pytest.raises(WeightsError, match="has 1 layers with weights, small has 2"):
        load_keras2(network(), write(tmp_path / "w.h5", fewer))
    bare = {**WEIGHTS, "dense_9": {"kernel": np.zeros((3, 1))}}
    with pytest.raises(WeightsError, match="dense_9 has 1 weights, second has 2"):
        load_keras2(network(), write(tmp_path / "v.h5", bare))


@pytest.mark.parametrize("content", [b"", b"x" * 500, b"\x89HDF\r\n\x1a\n" + b"\0" * 400])
def test_other_files(tmp_path, content):
    path = tmp_path / "w.h5"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a readable Keras 2 weight file"):
        load_keras2(network(), path)


def test_a_missing_file(tmp_path):
    with pytest.raises(WeightsError, match="no such weight file"):
        load_keras2(network(), tmp_path / "none.h5")


def _replace_kernel(path, make):
    with h5py.File(path, "r+") as file:
        group = file["dense_7/dense_7"]
        del group["kernel:0"]
        make(group)


@pytest.mark.parametrize(
    "make",
    [
        lambda group: group.__setitem__("kernel:0", h5py.ExternalLink("secret.h5", "/x")),
        lambda group: group.__setitem__("kernel:0", h5py.SoftLink("/dense_9/dense_9/kernel:0")),
        lambda group: group.create_dataset(
            "kernel:0", (4, 3), "f4", external=[("secret.bin", 0, 48)]
        ),
        lambda group: group.create_virtual_dataset(
            "kernel:0", _layout_of_another_file(), fillvalue=0
        ),
        lambda group: group.create_dataset("kernel:0", data=np.full((4, 3), b"x" * 8)),
    ],
    ids=["external link", "soft link", "external storage", "virtual", "strings"],
)
def test_more_than_arrays_is_refused(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    with h5py.File("secret.h5", "w") as secret:
        secret["x"] = np.zeros((4, 3), np.float32)
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    path = write(tmp_path / "w.h5")
    _replace_kernel(path, make)
    with pytest.raises(WeightsError, match="not a readable Keras 2 weight file"):
        load_keras2(network(), path)


def _layout_of_another_file():
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "x", (4, 3))
    return layout
