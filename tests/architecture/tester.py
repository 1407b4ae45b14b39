"""The checks every network has to pass, whatever it is made of."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from lungbox import architecture
from lungbox.architecture.registry import NetworkError
from lungbox.datasets.phantom import draw
from lungbox.metrics.losses import IoUBinaryCrossentropy
from lungbox.radiograph import prepare, read
from lungbox.weights.files import WeightsError, load_weights, save_weights

SIDE, COUNT = 64, 8  # small inputs, so that the suite stays quick
CLOSE = 1e-4


class NetworkTester:
    """Subclass it, name the network, and pytest runs every check on it."""

    name: str

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls, images: np.ndarray) -> keras.Model:
        keras.utils.set_random_seed(1)
        model = architecture.build(cls.name, SIDE)
        _settle(model, images)
        return model

    @pytest.fixture(scope="class")
    @classmethod
    def again(cls) -> keras.Model:
        return architecture.build(cls.name, SIDE)

    @pytest.fixture(scope="class")
    @classmethod
    def images(cls) -> np.ndarray:
        phantoms = [draw(SIDE, i % 3, np.random.default_rng(i)).pixels for i in range(COUNT)]
        return np.stack(phantoms)[..., None].astype(np.float32)

    def test_shapes_and_ranges(self, network, images):
        outputs = _run(network, images)
        side = SIDE // architecture.describe(self.name).stride
        assert outputs["mask"].shape == (COUNT, side, side, 2)
        if architecture.describe(self.name).image_head:
            assert outputs["image"].shape == (COUNT, 1)
        else:
            assert set(outputs) == {"mask"}
        for values in outputs.values():
            assert values.dtype == np.float32
            assert (values >= 0).all()
            assert (values <= 1 + 1e-6).all()

    def scaled(self, rgb: np.ndarray) -> np.ndarray:
        """`(B, H, W, 3)` 0-255 as the weights its encoder starts from were trained on them."""
        raise NotImplementedError

    def test_the_encoder_sees_what_its_weights_expect(self, network, examples):
        """On a real radiograph, behind the network's own first layers; and nothing sees it
        otherwise."""
        pixels = prepare(read(examples / "00001437_019.dcm").pixels, SIDE)
        gray = pixels[None, ..., None].astype(np.float32)
        layer = network.get_layer("encoder_scaling")
        seen = keras.ops.convert_to_numpy(keras.Model(network.input, layer.output)(gray))
        expected = self.scaled(np.repeat(gray, 3, axis=-1))[..., : seen.shape[-1]]
        assert np.abs(seen - expected).max() < 1e-3
        assert np.ptp(expected) > 1.5
        unscaled = {id(network.input), id(layer.input)}
        readers = [
            other.name
            for other in network.layers
            if not isinstance(other, keras.layers.InputLayer)
            and any(id(tensor) in unscaled for tensor in keras.tree.flatten(other.input))
        ]
        assert set(readers) <= {"encoder_channels", "encoder_scaling"}

    def test_the_mask_follows_the_image(self, network, images):
        """Different images have different masks, wherever in a batch they are."""
        both = _run(network, images)["mask"]
        swapped = _run(network, images[::-1])["mask"][::-1]
        assert np.abs(both - swapped).max() < CLOSE
        assert np.abs(both[0] - both[1]).max() > CLOSE

    def test_other_sizes(self, images):
        wide = architecture.build(self.name, 2 * SIDE)
        stride = architecture.describe(self.name).stride
        assert wide.output["mask"].shape == (None, 2 * SIDE // stride, 2 * SIDE // stride, 2)
        with pytest.raises(NetworkError, match="multiple of 32"):
            architecture.build(self.name, 100)

    def test_every_weight_learns(self, images):
        """One step moves every trainable variable, so no branch is cut off."""
        keras.utils.set_random_seed(2)
        # Branches that are dropped at random would be still.
        model = self.without_dropout()
        loss = {"mask": IoUBinaryCrossentropy()}
        targets = {"mask": _masks(model.output["mask"].shape[1])}
        if architecture.describe(self.name).image_head:
            loss["image"] = "binary_crossentropy"
            targets["image"] = np.arange(COUNT)[:, None] % 2
        model.compile(keras.optimizers.SGD(0.1), loss=loss, jit_compile=False)
        before = [keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
        model.train_on_batch(images, targets)
        for variable, old in zip(model.trainable_variables, before, strict=True):
            assert np.abs(keras.ops.convert_to_numpy(variable) - old).max() > 0, variable.path

    def without_dropout(self) -> keras.Model:
        return architecture.build(self.name, SIDE)

    def test_mixed_bfloat16(self, network, images):
        """Half the precision, almost the same answer; the outputs stay float32."""
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            mixed = architecture.build(self.name, SIDE)
        finally:
            keras.config.set_dtype_policy("float32")
        for ours, theirs in zip(mixed.weights, network.weights, strict=True):
            ours.assign(theirs)
        outputs, exact = _run(mixed, images), _run(network, images)
        for key, values in outputs.items():
            assert values.dtype == np.float32
            # Rounding grows on its way through a random network; a wrong cast leaves nothing.
            assert np.corrcoef(values.ravel(), exact[key].ravel())[0, 1] > 0.7

    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_weights_round_trip(self, network, again, tmp_path, dtype):
        path = tmp_path / "weights.safetensors"
        save_weights(network, path, dtype)
        for variable in again.weights:
            variable.assign(keras.ops.full_like(variable, 7))
        load_weights(again, path)
        for ours, theirs in zip(again.weights, network.weights, strict=True):
            kept = keras.ops.convert_to_numpy(theirs).astype(dtype).astype(np.float32)
            assert np.array_equal(keras.ops.convert_to_numpy(ours), kept), ours.path

    def test_another_networks_weights_are_refused(self, network, tmp_path):
        path = tmp_path / "weights.safetensors"
        save_weights(network, path)
        inputs = keras.Input((4,))
        other = keras.Model(inputs, keras.layers.Dense(1, name="other")(inputs), name="other")
        with pytest.raises(WeightsError, match="other/kernel"):
            load_weights(other, path)

    def test_names_are_the_same_in_every_build(self, network, again):
        """A checkpoint's keys are variable paths: they may not depend on what was built before."""
        assert [v.path for v in again.weights] == [v.path for v in network.weights]
        assert len({v.path for v in again.weights}) == len(again.weights)

    def test_tensorflow_and_jax_agree(self, network, images, tmp_path):
        pytest.importorskip("jax")
        other = "jax" if keras.backend.backend() == "tensorflow" else "tensorflow"
        save_weights(network, tmp_path / "weights.safetensors")
        np.save(tmp_path / "images.npy", images)
        _run_elsewhere(other, self.name, tmp_path)
        outputs = _run(network, images)
        with np.load(tmp_path / "outputs.npz") as theirs:
            for key, values in outputs.items():
                assert np.abs(values - theirs[key]).max() < CLOSE


def _masks(side: int) -> np.ndarray:
    opacity = np.random.default_rng(3).random((COUNT, side, side, 1)).round().astype(np.float32)
    return np.concatenate([1 - opacity, opacity], axis=-1)


def _settle(model: keras.Model, images: np.ndarray) -> None:
    """Give normalisation layers the statistics of `images`, as training does.

    With those of a fresh network a signal fades on its way through it, and no output depends on
    the image.
    """
    for variable in model.weights:
        # ResNet's residual branches: fifty fresh ones on top of each other make noise of rounding.
        if variable.path.endswith("_3_bn/gamma"):
            variable.assign(0.1 * variable)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


def _run(model: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    outputs = model(images, training=False)
    return {key: keras.ops.convert_to_numpy(values) for key, values in outputs.items()}


def _run_elsewhere(backend: str, name: str, folder: Path) -> None:
    """Load the weights and run the network in a process with another backend."""
    program = f"""
import numpy as np, keras
from pathlib import Path
from lungbox import architecture
from lungbox.weights.files import load_weights
folder = Path({str(folder)!r})
model = architecture.build({name!r}, {SIDE})
load_weights(model, folder / "weights.safetensors")
# As a compiled graph: JAX takes four times as long when it goes from layer to layer.
np.savez(folder / "outputs.npz", **model.predict(np.load(folder / "images.npy"), verbose=0))
"""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
