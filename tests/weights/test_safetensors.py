"""Weight files: whole or not at all, and never another network's."""

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lungbox.weights.formats.safetensors import (
    WeightsError,
    check_all_finite,
    load_weights,
    read_tensors,
    save_weights,
)


def network(units=3):
    inputs = keras.Input((4,))
    x = keras.layers.Dense(units, name="first")(inputs)
    return keras.Model(inputs, keras.layers.Dense(1, name="second")(x), name="small")


def test_keys_are_variable_paths(tmp_path):
    save_weights(network(), tmp_path / "w.safetensors", "float16")
    tensors = load_file(tmp_path / "w.safetensors")
    assert set(tensors) == {"first/kernel", "first/bias", "second/kernel", "second/bias"}
    assert all(tensor.dtype == np.float16 for tensor in tensors.values())


def test_a_wrong_shape_is_named(tmp_path):
    save_weights(network(3), tmp_path / "w.safetensors")
    with pytest.raises(
        WeightsError, match=r"first/kernel has shape \(4, 3\), small needs \(4, 5\)"
    ):
        load_weights(network(5), tmp_path / "w.safetensors")


def test_a_tensor_too_many_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(network(), path)
    save_file({**load_file(path), "third/kernel": np.zeros(2)}, path)
    with pytest.raises(WeightsError, match="holds third/kernel"):
        load_weights(network(), path)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x80\x04cos\nsystem\n."])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        read_tensors(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match="no such weight file"):
        read_tensors(tmp_path / "none.safetensors")


def test_weights_that_do_not_fit_float16_are_refused(tmp_path):
    model = network()
    model.get_layer("first").kernel.assign(np.full((4, 3), 1e6))
    with pytest.raises(ValueError, match="first/kernel is not finite as float16"):
        save_weights(model, tmp_path / "w.safetensors", "float16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, bad):
    path = tmp_path / "w.safetensors"
    save_weights(network(), path, "float16")
    check_all_finite(path)
    tensors = load_file(path)
    tensors["second/kernel"][1, 0] = bad
    save_file(tensors, path)
    sentence = "w.safetensors: second/kernel holds NaN or infinity in 1 of 3 values"
    for refuse in (check_all_finite, lambda path: load_weights(network(), path)):
        with pytest.raises(WeightsError, match=sentence):
            refuse(path)
