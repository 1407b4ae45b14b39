"""Every registered network passes the shared checks."""

import keras
import numpy as np
import pytest

from lungbox import architecture
from lungbox.architecture.registry import NetworkError
from tests.architecture.detection.test_networks import LargeDetectorTester, LightDetectorTester
from tests.architecture.tester import (
    SIDE,
    ClassifierTester,
    LargeNetworkTester,
    NetworkTester,
)


class LightNetworkTester(NetworkTester):
    parameters: int

    def scaled(self, rgb):
        """Of the published EfficientNet-Lite: MEAN_RGB is 127, STDDEV_RGB 128."""
        return (rgb - 127) / 128

    def without_dropout(self):
        return architecture.build(self.name, 2 * self.side, drop_connect=0, dropout=0)

    def test_size(self, network):
        assert network.count_params() == self.parameters


class TestUnetLite0(LightNetworkTester):
    name = "unet_lite0"
    # 3.37 million in the encoder with its 1,280-channel head; the rest is the decoder.
    parameters = 3_538_071


class TestUnetLite1(LightNetworkTester):
    name = "unet_lite1"
    parameters = 4_314_391
    bfloat16 = 0.6  # deeper


class TestUnetLite2(LightNetworkTester):
    name = "unet_lite2"
    parameters = 5_000_727


class TestUnetResnet152(LargeNetworkTester):
    name = "unet_resnet152"

    def scaled(self, rgb):
        return keras.applications.resnet.preprocess_input(rgb.copy())

    def test_all_of_the_fourth_stage_is_there(self, network):
        reference = architecture.build("unet_resnet152_reference", SIDE)
        # 30 blocks of 1,024 to 256 to 256 to 1,024 channels, with biases and normalisation.
        block = 1024 * 256 + 256 + 9 * 256 * 256 + 256 + 256 * 1024 + 1024 + 4 * (256 + 256 + 1024)
        assert network.count_params() > reference.count_params() + 30 * block


class TestUnetDensenet121(LargeNetworkTester):
    name = "unet_densenet121"

    def scaled(self, rgb):
        return keras.applications.densenet.preprocess_input(rgb.copy())


class TestUnetVgg19Attention(LargeNetworkTester):
    name = "unet_vgg19_attention"

    def scaled(self, rgb):
        return keras.applications.vgg19.preprocess_input(rgb.copy())


class TestAsppResnet152(LargeNetworkTester):
    name = "aspp_resnet152"

    def scaled(self, rgb):
        return keras.applications.resnet.preprocess_input(rgb.copy())


class PublishedNetworkTester(LargeNetworkTester):
    """JAX computes the published outputs themselves in tests/weights/test_keras2.py."""

    test_tensorflow_and_jax_agree = None

    def scaled(self, rgb):
        """All alike, to -1..1, which is not what their ImageNet weights were trained on."""
        return rgb / 127.5 - 1


class TestUnetResnet152Reference(PublishedNetworkTester):
    name = "unet_resnet152_reference"


class TestUnetDensenet121Reference(PublishedNetworkTester):
    name = "unet_densenet121_reference"


class TestUnetVgg19AttentionReference(PublishedNetworkTester):
    name = "unet_vgg19_attention_reference"


class TestAsppResnet152Reference(PublishedNetworkTester):
    name = "aspp_resnet152_reference"


class LightClassifierTester(ClassifierTester, LightNetworkTester):
    """On the encoders of the light U-Nets."""

    side = 64  # at 32 px one pixel of noise is left to pool
    bfloat16 = 0.5


class TestClassifierLite0(LightClassifierTester):
    name = "classifier_lite0"
    # The encoder with its 1,280-channel head, and one probability.
    parameters = 3_413_729


class TestClassifierLite1(LightClassifierTester):
    name = "classifier_lite1"
    parameters = 4_190_049


class TestClassifierLite2(LightClassifierTester):
    name = "classifier_lite2"
    parameters = 4_869_873


@pytest.mark.long("networks of a hundred layers and more")
class LargeClassifierTester(ClassifierTester):
    side = 96  # InceptionResNetV2's smallest


class TestClassifierEfficientnetB4(LargeClassifierTester):
    name = "classifier_efficientnet_b4"

    def without_dropout(self):
        """Its stochastic depth is not an option."""
        model = super().without_dropout()
        for layer in model.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0
        return model

    def scaled(self, rgb):
        """What the preprocessing layers of Keras compute with the published values."""
        mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        return (rgb / 255 - mean) / np.sqrt(deviation) / np.sqrt(deviation)


class TestClassifierInceptionResnetV2(LargeClassifierTester):
    name = "classifier_inception_resnet_v2"

    def scaled(self, rgb):
        return keras.applications.inception_resnet_v2.preprocess_input(rgb.copy())


class TestClassifierXception(LargeClassifierTester):
    name = "classifier_xception"

    def scaled(self, rgb):
        return keras.applications.xception.preprocess_input(rgb.copy())


class TestClassifierDensenet169(LargeClassifierTester):
    name = "classifier_densenet169"

    def scaled(self, rgb):
        return keras.applications.densenet.preprocess_input(rgb.copy())


class TestClassifierResnet50(LargeClassifierTester):
    name = "classifier_resnet50"

    def scaled(self, rgb):
        return keras.applications.resnet.preprocess_input(rgb.copy())


class TestClassifierSeResnext101(LargeClassifierTester):
    name = "classifier_se_resnext101"

    def scaled(self, rgb):
        """As PyTorch's networks, which its authors' weights were converted to."""
        return keras.applications.imagenet_utils.preprocess_input(rgb.copy(), mode="torch")


def test_every_network_is_tested():
    families = (
        *(NetworkTester, LightNetworkTester, LargeNetworkTester, PublishedNetworkTester),
        *(LightClassifierTester, LargeClassifierTester, LightDetectorTester, LargeDetectorTester),
    )
    testers = [tester for family in families for tester in family.__subclasses__()]
    tested = {tester.name for tester in testers if hasattr(tester, "name")}
    assert tested == set(architecture.names())


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(NetworkError, match="did you mean unet_lite0"):
        architecture.build("unet_lit0")
