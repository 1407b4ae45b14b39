"""Old PyTorch checkpoints: read without PyTorch, and nothing in them is run."""

import os
import pickle

import numpy as np
import pytest

from lungbox.weights.formats.imagenet import efficientnet_lite_file
from lungbox.weights.formats.safetensors import WeightsError
from lungbox.weights.formats.torch_legacy import read_state_dict

MAGIC = 0x1950A86A20F9469CFC6C


class _Evil:
    def __reduce__(self):
        return os.mkdir, ("should-never-exist",)


def test_the_published_file():
    state = read_state_dict(efficientnet_lite_file())
    assert len(state) == 296
    assert state["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert state["_blocks.0._depthwise_conv.weight"].shape == (32, 1, 3, 3)
    assert state["_fc.weight"].shape == (1000, 1280)
    assert all(np.isfinite(tensor).all() for tensor in state.values())


def test_nothing_in_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    parts = [MAGIC, 1001, {}, {"weight": _Evil()}, []]
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    with pytest.raises(WeightsError, match=r"names \w+\.mkdir"):
        read_state_dict(path)
    assert not (tmp_path / "should-never-exist").exists()


@pytest.mark.parametrize("share", [0, 0.0001, 0.001, 0.5, 0.999])
def test_a_cut_off_file_is_refused(tmp_path, share):
    content = efficientnet_lite_file().read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match="not a readable PyTorch state dictionary"):
        read_state_dict(path)
