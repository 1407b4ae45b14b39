"""The checks every network has to pass, whatever it is made of."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import pytest

from lungbox import architecture
from lungbox.architecture.registry import NetworkError
from lungbox.datasets.phantom import draw
from lungbox.metrics.losses import IoUBinaryCrossentropy
from lungbox.radiograph import prepare, read
from lungbox.weights.formats.safetensors import WeightsError, load_weights, save_weights

SIDE, COUNT = 32, 2  # as small as can be, so that the suite stays quick
CLOSE = 1e-4


class NetworkTester:
    """Subclass it, name the network, and pytest runs every check on it."""

    name: str
    side = SIDE
    # Correlation of the outputs with those in bfloat16.
    bfloat16 = 0.7

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls) -> keras.Model:
        keras.utils.set_random_seed(1)
        model = architecture.build(cls.name, cls.side)
        _settle(model, chests(cls.side, 8 * COUNT))
        return model

    @pytest.fixture(scope="class")
    @classmethod
    def larger(cls) -> keras.Model:
        """The same network, built again for images twice as large; its kernels are 0."""
        with undrawn_kernels():
            return architecture.build(cls.name, 2 * cls.side)

    @pytest.fixture(scope="class")
    @classmethod
    def images(cls) -> np.ndarray:
        return chests(cls.side)

    @pytest.fixture(scope="class")
    @classmethod
    def saved(cls, network: keras.Model, tmp_path_factory) -> Iterator[Path]:
        """Its weight file, which may have hundreds of megabytes."""
        path = tmp_path_factory.mktemp("saved") / "weights.safetensors"
        save_weights(network, path)
        yield path
        path.unlink()

    @pytest.fixture(scope="class")
    @classmethod
    def outputs(cls, network: keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
        return _run(network, images)

    def test_shapes_and_ranges(self, outputs):
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
        pixels = prepare(read(examples / "00001437_019.dcm").pixels, self.side)
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

    def test_the_mask_follows_the_image(self, network, images, outputs):
        """Different images have different masks, wherever in a batch they are."""
        both = outputs["mask"]
        swapped = _run(network, images[::-1])["mask"][::-1]
        assert np.abs(both - swapped).max() < CLOSE
        assert np.abs(both[0] - both[1]).max() > CLOSE

    def test_other_sizes(self, larger):
        stride = architecture.describe(self.name).stride
        assert larger.output["mask"].shape == (None, 2 * SIDE // stride, 2 * SIDE // stride, 2)
        with pytest.raises(NetworkError, match="multiple of 32"):
            architecture.build(self.name, 100)

    def test_every_weight_learns(self):
        assert_every_weight_learns(self.without_dropout(), chests(2 * self.side))

    def without_dropout(self) -> keras.Model:
        """For images twice as large; branches that are dropped at random would be still."""
        return architecture.build(self.name, 2 * self.side)

    def test_mixed_bfloat16(self, network, images, outputs):
        """Half the precision, almost the same answer; the outputs stay float32."""
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            with undrawn_kernels():
                mixed = architecture.build(self.name, self.side)
        finally:
            keras.config.set_dtype_policy("float32")
        for ours, theirs in zip(mixed.weights, network.weights, strict=True):
            ours.assign(theirs)
        for key, values in _run(mixed, images).items():
            assert values.dtype == np.float32
            # Rounding grows on its way through a random network; a wrong cast leaves nothing.
            assert np.corrcoef(values.ravel(), outputs[key].ravel())[0, 1] > self.bfloat16

    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_weights_round_trip(self, network, larger, saved, tmp_path, dtype):
        path = saved if dtype == "float32" else tmp_path / "weights.safetensors"
        if dtype != "float32":
            save_weights(network, path, dtype)
        for variable in larger.weights:
            variable.assign(keras.ops.full_like(variable, 7))
        load_weights(larger, path)
        for ours, theirs in zip(larger.weights, network.weights, strict=True):
            kept = keras.ops.convert_to_numpy(theirs).astype(dtype).astype(np.float32)
            assert np.array_equal(keras.ops.convert_to_numpy(ours), kept), ours.path

    def test_another_networks_weights_are_refused(self, saved):
        inputs = keras.Input((4,))
        other = keras.Model(inputs, keras.layers.Dense(1, name="other")(inputs), name="other")
        with pytest.raises(WeightsError, match="other/kernel"):
            load_weights(other, saved)

    def test_names_are_the_same_in_every_build(self, network, larger):
        """A checkpoint's keys are variable paths: they may not depend on what was built before."""
        assert [v.path for v in larger.weights] == [v.path for v in network.weights]
        assert len({v.path for v in larger.weights}) == len(larger.weights)

    @pytest.mark.slow
    def test_tensorflow_and_jax_agree(self, outputs, saved, images, other_backend):
        theirs = other_backend.call(computed, self.name, saved, images)
        assert theirs.keys() == outputs.keys()
        for key, values in outputs.items():
            assert np.abs(values - theirs[key]).max() < CLOSE


class ClassifierTester(NetworkTester):
    """The checks of a classification network, built for one class, three and fourteen."""

    def test_shapes_and_ranges(self, outputs):
        assert {name: values.shape for name, values in outputs.items()} == {
            "classes": (COUNT, 1),
            "image": (COUNT, 1),
        }
        for values in outputs.values():
            assert values.dtype == np.float32
            assert (values > 0).all()
            assert (values < 1).all()
        assert np.array_equal(outputs["classes"], outputs["image"])

    def test_the_mask_follows_the_image(self, network, images, outputs):
        """Different images have different scores, wherever in a batch they are."""
        both = outputs["classes"]
        swapped = _run(network, images[::-1])["classes"][::-1]
        assert np.abs(both - swapped).max() < CLOSE
        assert np.abs(both[0] - both[1]).max() > CLOSE

    def test_other_sizes(self, network, larger):
        assert larger.input_shape == (None, 2 * self.side, 2 * self.side, 1)
        # Of a pooled map, whatever its size: the same weights.
        assert larger.count_params() == network.count_params()
        with pytest.raises(NetworkError, match="multiple of 32"):
            architecture.build(self.name, 100)

    def test_other_classes(self, network):
        with undrawn_kernels():
            model = architecture.build(self.name, self.side, [f"finding {n}" for n in range(14)])
        assert {name: y.shape for name, y in model.output.items()} == {
            "classes": (None, 14),
            "image": (None, 1),
        }
        assert model.name == network.name == self.name
        # One row of the kernel and a bias for each label and for the image score.
        pooled = network.get_layer("image_pool").output.shape[1]
        assert model.count_params() - network.count_params() == 14 * (pooled + 1)

    def test_mixed_bfloat16(self, network, images, outputs):
        """On more images: two numbers have no correlation."""
        many = chests(self.side, 16)
        super().test_mixed_bfloat16(network, many, _run(network, many))


def computed(name: str, weights: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """What the network `name` with weights from a file says of images, on any backend."""
    with undrawn_kernels():
        model = architecture.build(name, images.shape[1])
    load_weights(model, weights)
    # As a compiled graph: JAX takes longer when it goes from layer to layer.
    return model.predict(images, verbose=0)


@contextmanager
def undrawn_kernels() -> Iterator[None]:
    """Inside, networks are built whose weights come from elsewhere: to draw them takes as long as
    all else, and on JAX, which compiles a program for each shape, much longer."""

    def zeros(_: object, shape: tuple[int, ...], dtype: str | None = None, **__: object) -> object:
        return keras.ops.convert_to_tensor(np.zeros(shape, dtype or "float32"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.initializers.VarianceScaling, "__call__", zeros)
        yield


def chests(side: int, count: int = COUNT) -> np.ndarray:
    """`(count, side, side, 1)` drawn radiographs, float32 0-255."""
    phantoms = [draw(side, i % 3, np.random.default_rng(i)).pixels for i in range(count)]
    return np.stack(phantoms)[..., None].astype(np.float32)


def assert_every_weight_learns(model: keras.Model, images: np.ndarray) -> None:
    """One step moves every trainable variable, so no branch is cut off."""
    keras.utils.set_random_seed(2)
    loss, targets = {}, {}
    if "mask" in model.output:
        loss["mask"] = IoUBinaryCrossentropy()
        targets["mask"] = _masks(model.output["mask"].shape[1])
    for name in {"image", "classes"} & set(model.output):
        loss[name] = "binary_crossentropy"
        columns = np.arange(model.output[name].shape[1])
        targets[name] = (np.arange(len(images))[:, None] + columns) % 2
    # A graph of all its gradients would take ten times as long to make as one step does.
    model.compile(keras.optimizers.SGD(0.1), loss=loss, jit_compile=False, run_eagerly=True)
    before = [keras.ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
    model.train_on_batch(images, targets)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert np.abs(keras.ops.convert_to_numpy(variable) - old).max() > 0, variable.path


class LargeNetworkTester(NetworkTester):
    """One of more than fifty layers: `test_pieces.py` trains what it is made of in seconds."""

    @pytest.mark.long("the gradients of a hundred layers")
    @pytest.mark.release
    def test_every_weight_learns(self):
        super().test_every_weight_learns()


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
        if re.search(r"(_3_bn|stage\d_block\d+_expand_norm)/gamma$", variable.path):
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
