"""Every registered network passes the shared checks."""

import keras
import pytest

from lungbox import architecture
from lungbox.architecture.registry import NetworkError
from tests.architecture.tester import SIDE, LargeNetworkTester, NetworkTester


class LightNetworkTester(NetworkTester):
    parameters: int

    def scaled(self, rgb):
        """Of the published EfficientNet-Lite: MEAN_RGB is 127, STDDEV_RGB 128."""
        return (rgb - 127) / 128

    def without_dropout(self):
        return architecture.build(self.name, 2 * SIDE, drop_connect=0, dropout=0)

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


def test_every_network_is_tested():
    families = (NetworkTester, LightNetworkTester, LargeNetworkTester, PublishedNetworkTester)
    testers = [tester for family in families for tester in family.__subclasses__()]
    tested = {tester.name for tester in testers if hasattr(tester, "name")}
    assert tested == set(architecture.names())


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(NetworkError, match="did you mean unet_lite0"):
        architecture.build("unet_lit0")
