"""The plan of a network, and the table and parts that the command line prints of it."""

import io

import pytest
from rich.console import Console

from lungbox import architecture, architecture_table
from lungbox.architecture import cost
from lungbox.architecture.plan import Part, plan
from lungbox.architecture.registry import NetworkError
from tests.tiny import enter_tiny


@pytest.fixture(scope="module")
def parts() -> dict[str, dict[str, Part]]:
    names = ("unet_lite0", "unet_vgg19_attention_reference", "aspp_resnet152_reference")
    return {
        name: {part.name: part for part in plan(architecture.build(name, 128))} for name in names
    }


def test_nothing_is_lost():
    for name in ("unet_lite0", "unet_vgg19_attention"):
        model = architecture.build(name)
        known = plan(model)
        assert sum(part.parameters for part in known) == model.count_params()
        assert sum(part.macs for part in known) == cost.macs(model)


def test_each_part_follows_what_it_reads(parts):
    for known in parts.values():
        names = list(known)
        for part in known.values():
            assert all(names.index(read) < names.index(part.name) for read in part.reads)


def test_the_light_network(parts):
    known = parts["unet_lite0"]
    encoder = [(p.name, p.stride, p.channels) for p in known.values() if p.kind == "encoder"]
    assert encoder == [
        ("block2b_add", 4, 24),
        ("block3b_add", 8, 40),
        ("block5c_add", 16, 112),
        ("block7a_project_norm", 32, 320),
        ("top_relu6", 32, 1280),
    ]
    widths = [part.channels for part in known.values() if part.kind == "decoder"]
    assert widths == [128, 96, 64]
    assert known["decoder1"].reads == ("block7a_project_norm", "block5c_add")
    assert known["image"].reads == ("top_relu6", "mask")
    assert known["image"].shape == (1,)


def test_attention_stands_between_encoder_and_decoder(parts):
    known = parts["unet_vgg19_attention_reference"]
    weighed = [part for part in known.values() if part.kind == "attention"]
    assert [part.name for part in weighed] == ["bridge", "skip1", "skip2", "skip3", "skip4"]
    assert {part.steps for part in weighed} == {("squeeze-and-excitation",)}
    assert known["decoder2"].reads == ("decoder1", "skip2")
    assert known["skip2"].reads == ("block3_conv3",)
    assert known["mask"].steps == ("1x1", "sigmoid")


def test_the_pyramid_has_five_branches(parts):
    known = parts["aspp_resnet152_reference"]
    assert set(known["aspp_mix"].reads) == {
        "aspp_image",
        "aspp_rate1",
        "aspp_rate6",
        "aspp_rate12",
        "aspp_rate18",
    }
    assert known["aspp_rate12"].steps == ("3x3 at rate 12",)
    assert known["low_level"].reads == ("conv2_block2_out",)


def printed(show, *arguments) -> str:
    console = Console(file=io.StringIO(), highlight=False)
    show(*arguments, console)
    return console.file.getvalue()


def test_the_table(monkeypatch, own_home, tmp_path):
    names = ["unet_lite0", "unet_vgg19_attention", "unet_vgg19_attention_reference"]
    monkeypatch.setattr(architecture, "names", lambda: names)
    enter_tiny(tmp_path)
    lines = [line.split() for line in printed(architecture_table.show).splitlines()]
    start = next(at for at, line in enumerate(lines) if line[:1] == ["unet_lite0"])
    light = ["unet_lite0", "3,538,071", "1.19", "EfficientNet-Lite0", "256", "4", "yes"]
    assert lines[start] == [*light, "tiny", "(here)"]
    assert lines[start + 1] == ["default", "(here)"]
    assert lines[start + 2][-2:] == ["yes", "-"]
    assert lines[start + 3][-4:] == ["no", "reference", "(to", "fetch)"]


def test_a_narrow_terminal_breaks_no_number(monkeypatch):
    monkeypatch.setattr(architecture, "names", lambda: ["unet_vgg19_attention_reference"])
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    architecture_table.show(console)
    text = console.file.getvalue()
    assert "29,424,802" in text
    assert "27.88" in text
    assert "…" not in text


def test_one_network():
    text = printed(architecture_table.show_one, "unet_lite0")
    assert "3,538,071 parameters, 1.19 GFLOPs" in text
    assert "block5c_add" in text


def test_a_wrong_name():
    with pytest.raises(NetworkError, match="did you mean unet_lite0"):
        printed(architecture_table.show_one, "unet_lit0")
