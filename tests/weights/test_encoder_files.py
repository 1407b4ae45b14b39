"""An encoder from a file: Keras' own format, or another network of Lungbox around it."""

import h5py
import keras
import numpy as np
import pytest

from lungbox import architecture
from lungbox.weights.formats.imagenet import load_encoder
from lungbox.weights.formats.safetensors import WeightsError, save_weights


def test_the_format_keras_publishes(tmp_path):
    from keras.src.legacy.saving import legacy_h5_format

    keras.utils.set_random_seed(3)
    published = keras.applications.VGG19(include_top=False, weights=None)
    with h5py.File(tmp_path / "vgg19.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, published)
    model = architecture.build("unet_vgg19_attention", 32)
    filled = load_encoder(model, "VGG19", tmp_path / "vgg19.h5")
    assert len(filled) == 2 * 16
    values = {variable.path: variable.numpy() for variable in model.weights}
    for variable in published.weights:
        assert np.array_equal(values[variable.path], variable.numpy())


def test_another_network_around_the_same_encoder(tmp_path):
    keras.utils.set_random_seed(4)
    first = architecture.build("unet_densenet121_reference", 32)
    save_weights(first, tmp_path / "first.safetensors")
    second = architecture.build("unet_densenet121", 32)
    filled = load_encoder(second, "DenseNet121", tmp_path / "first.safetensors")
    values = {variable.path: variable.numpy() for variable in first.weights}
    taken = [v for v in second.weights if v.path in filled]
    # 100 layers with a kernel and four of normalisation up to the fourth pooling, and no more.
    assert len(filled) > 400
    assert all(np.array_equal(v.numpy(), values[v.path]) for v in taken)
    assert not any(path.startswith(("mask", "image", "decoder")) for path in filled)


def test_an_encoder_of_another_depth(tmp_path):
    save_weights(architecture.build("unet_vgg19_attention", 32), tmp_path / "w.safetensors")
    model = architecture.build("unet_densenet121", 32)
    with pytest.raises(WeightsError, match=r"has no weights for .* of DenseNet121"):
        load_encoder(model, "DenseNet121", tmp_path / "w.safetensors")
    _write_vgg(tmp_path / "vgg.h5")
    with pytest.raises(WeightsError, match="layers with weights"):
        load_encoder(model, "DenseNet121", tmp_path / "vgg.h5")


def _write_vgg(path):
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(
            file, keras.applications.VGG16(include_top=False, weights=None)
        )
