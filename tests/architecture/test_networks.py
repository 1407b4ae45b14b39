"""Every registered network passes the shared checks."""

import keras
import pytest

from lungbox import architecture
from lungbox.architecture.registry import NetworkError
from tests.architecture.tester import SIDE, NetworkTester


class TestUnetLite0(NetworkTester):
    name = "unet_lite0"

    def without_dropout(self) -> keras.Model:
        return architecture.build(self.name, SIDE, drop_connect=0, dropout=0)

    def test_size(self, network):
        # 3.37 million in the encoder with its 1,280-channel head; the rest is the decoder.
        assert network.count_params() == 3_538_071


def test_every_network_is_tested():
    tested = {tester.name for tester in NetworkTester.__subclasses__()}
    assert tested == set(architecture.names())


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(NetworkError, match="did you mean unet_lite0"):
        architecture.build("unet_lit0")
