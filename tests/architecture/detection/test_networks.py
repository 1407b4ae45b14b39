"""Every detection network passes the shared checks, and those of detectors."""

import keras
import numpy as np
import pytest
from keras import ops

from lungbox import architecture
from lungbox.architecture.detection.anchors import Anchors
from lungbox.architecture.detection.losses import AnchorLoss, RoiLoss
from lungbox.architecture.registry import NetworkError
from lungbox.engines import EngineConfig, Member, start
from lungbox.weights.entries import Weights
from lungbox.weights.store import sha256
from tests.architecture.tester import (
    COUNT,
    NetworkTester,
    _run,
    chests,
    computed,
    undrawn_kernels,
)

LOSSES = {"anchors": AnchorLoss(), "rpn": AnchorLoss(any_class=True), "rois": RoiLoss()}
FOURTEEN = [f"finding {number}" for number in range(14)]


def spread(model: keras.Model) -> None:
    """Make a fresh network's scores and boxes differ as a trained one's do, so that rounding cannot
    change which are the best."""
    random = np.random.default_rng(11)
    for name, scale in (("class_logits", 0.3), ("box_logits", 0.05), ("roi_class", 0.3)):
        for layer in model.layers:
            if layer.name.endswith(name):
                shape = layer.kernel.shape
                layer.kernel.assign(random.normal(0, scale / np.sqrt(shape[-2] / 96), shape))


class DetectorTester(NetworkTester):
    side = 64

    @property
    def two_stage(self) -> bool:
        return self.name.startswith(("fasterrcnn", "rfcn"))

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls) -> keras.Model:
        model = NetworkTester.network.__wrapped__.__func__(cls)
        spread(model)
        return model

    def test_shapes_and_ranges(self, network, outputs):
        entry = architecture.describe(self.name)
        count = outputs["boxes"].shape[1]
        assert outputs["boxes"].shape == (COUNT, count, 4)
        assert outputs["scores"].shape == (COUNT, count, 1)
        assert ("image" in outputs) == entry.image_head
        for values in outputs.values():
            assert values.dtype == np.float32
            assert (values >= 0).all()
            assert (values <= 1).all()
        assert (outputs["boxes"][..., :2] <= outputs["boxes"][..., 2:]).all()
        assert np.ptp(outputs["scores"]) > 0.02

    def test_the_mask_follows_the_image(self, network, images, outputs):
        """Different images have different boxes, wherever in a batch they are."""
        swapped = _run(network, images[::-1])
        for name, both in outputs.items():
            assert np.abs(both - swapped[name][::-1]).max() < 1e-3
            assert np.abs(both[0] - both[1]).max() > 1e-4

    def test_other_sizes(self, network, larger):
        assert larger.count_params() == network.count_params()
        with pytest.raises(NetworkError, match="multiple of 32"):
            architecture.build(self.name, 100)

    def test_other_classes(self, network):
        with undrawn_kernels():
            model = architecture.build(self.name, self.side, FOURTEEN)
        count = network.output["boxes"].shape[1]
        assert model.output["scores"].shape == (None, count, 14)
        assert model.output["boxes"].shape == (None, count, 4)
        head = network.get_layer("roi_class" if self.two_stage else "class_logits")
        per_class = head.count_params() // (2 if self.two_stage else 1)
        assert model.count_params() - network.count_params() == 13 * per_class

    def test_every_weight_learns(self):
        """Of one box for each level, as one without any has no box to learn; at 256 px, as the
        normalisation of a single position has no gradient."""
        model = self.without_dropout()
        names = {layer.name for layer in model.layers} & LOSSES.keys()
        outputs = {name: model.get_layer(name).output for name in names}
        losses = {name: LOSSES[name] for name in names}
        if "image" in model.output:
            outputs["image"], losses["image"] = model.output["image"], "binary_crossentropy"
        model = keras.Model(model.input, outputs)
        side = model.input_shape[1]
        size = 2.5 if self.name == "fasterrcnn_lite0" else 2.0 if "lite0" in self.name else 4.0
        anchors = Anchors(size, 1 if self.two_stage else 3).boxes(side)
        width = anchors[:, 2] - anchors[:, 0]
        square = np.isclose(width, anchors[:, 3] - anchors[:, 1])
        levels = [
            np.flatnonzero(square & np.isclose(width * side, size * 2**n)) for n in range(3, 8)
        ]
        boxes = np.stack([anchors[rows[len(rows) // 2]] for rows in levels])
        rows = np.concatenate([boxes, np.zeros((5, 1))], axis=1)
        targets = {name: np.stack([rows] * COUNT).astype(np.float32) for name in names}
        if "image" in outputs:
            targets["image"] = np.float32([[0], [1]])
        keras.utils.set_random_seed(2)
        model.compile(keras.optimizers.SGD(0.1), losses, jit_compile=False, run_eagerly=True)
        before = [ops.convert_to_numpy(v).copy() for v in model.trainable_variables]
        model.train_on_batch(chests(side), targets)
        for variable, old in zip(model.trainable_variables, before, strict=True):
            assert np.abs(ops.convert_to_numpy(variable) - old).max() > 0, variable.path

    def test_mixed_bfloat16(self, network, images, outputs):
        """Which boxes are the best may change; how sure the network is hardly does."""
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            with undrawn_kernels():
                mixed = architecture.build(self.name, self.side)
        finally:
            keras.config.set_dtype_policy("float32")
        for ours, theirs in zip(mixed.weights, network.weights, strict=True):
            ours.assign(theirs)
        found = _run(mixed, images)
        assert all(values.dtype == np.float32 for values in found.values())
        scores = outputs["scores"].max(axis=-1), found["scores"].max(axis=-1)
        assert np.corrcoef(*(values.ravel() for values in scores))[0, 1] > self.bfloat16

    @pytest.mark.slow
    def test_openvino_equals_keras(self, saved, images):
        """From prepared images to boxes, through both engines."""
        weights = Weights(
            architecture=self.name, image_size=self.side, sha256=sha256(saved), kind="detection"
        )
        config = EngineConfig(self.name, (Member(self.name, weights, saved, 1.0),), batch_size=4)
        pixels = images[..., 0].astype(np.uint8)
        ours, theirs = (start(name, config).predict(pixels) for name in ("keras", "openvino"))
        assert ours.scores == pytest.approx(theirs.scores, abs=1e-4)
        assert_same_boxes(ours.detections[0], theirs.detections[0])

    @pytest.mark.slow
    def test_tensorflow_and_jax_agree(self, outputs, saved, images, other_backend):
        theirs = other_backend.call(computed, self.name, saved, images)
        assert theirs.keys() == outputs.keys()
        assert_same_boxes(*((x["boxes"], x["scores"]) for x in (outputs, theirs)))
        if "image" in outputs:
            assert np.abs(outputs["image"] - theirs["image"]).max() < 1e-4


def assert_same_boxes(first, second) -> None:
    """Boxes with their scores are equal to 1e-4, in any order: rounding decides between anchors
    that are as good to 1e-5, and between the boxes that these suppress, so a few may differ."""
    first, second = (np.concatenate(each[:2], axis=-1) for each in (first, second))
    for mine, other in zip(first, second, strict=True):
        distances = np.abs(mine[:, None] - other[None]).max(axis=-1).min(axis=1)
        assert np.mean(distances < 1e-4) >= 0.95
        assert np.median(distances) < 1e-5


class LightDetectorTester(DetectorTester):
    parameters: int

    def scaled(self, rgb):
        """As `tests.architecture.test_networks.LightNetworkTester`."""
        return (rgb - 127) / 128

    def without_dropout(self):
        return architecture.build(self.name, 256, drop_connect=0, dropout=0)

    def test_size(self, network):
        assert network.count_params() == self.parameters


class TestRetinanetLite0(LightDetectorTester):
    name = "retinanet_lite0"
    # 3.41 million in the encoder and the image head, 0.18 in the pyramid and the subnets.
    parameters = 3_588_878


class TestFasterrcnnLite0(LightDetectorTester):
    name = "fasterrcnn_lite0"
    # 1.2 million in the first dense layer, of 49 x 96 inputs.
    parameters = 4_809_782


@pytest.mark.long("networks of a hundred layers and more")
class LargeDetectorTester(DetectorTester):
    def without_dropout(self):
        return architecture.build(self.name, 256)

    def scaled(self, rgb):
        return keras.applications.resnet.preprocess_input(rgb.copy())


class TestRetinanetResnet50(LargeDetectorTester):
    name = "retinanet_resnet50"


class TestFasterrcnnResnet50(LargeDetectorTester):
    name = "fasterrcnn_resnet50"


class TestRfcnResnet50(LargeDetectorTester):
    name = "rfcn_resnet50"


def test_the_anchor_size_is_an_option():
    anchors = {
        size: architecture.build("retinanet_lite0", 64, anchor_size=size)
        .get_layer("anchors")
        .anchors.size
        for size in (1.0, 3.0)
    }
    assert anchors == {1.0: 1.0, 3.0: 3.0}
