"""The table of networks and the summary of one, as the command line prints and docs state them."""

import io

import pytest
from rich.console import Console

from lungbox import architecture
from lungbox.architecture.registry import NetworkError
from lungbox.cli import networks
from tests.conftest import ROOT


def printed(show, *arguments, **options) -> str:
    console = Console(file=io.StringIO(), highlight=False, **options)
    show(*arguments, console)
    return console.file.getvalue()


@pytest.mark.long("every network is built")
@pytest.mark.release
def test_the_table_of_the_documentation():
    page = (ROOT / "docs/networks.md").read_text(encoding="utf-8")
    table = [line for line in page.partition("\n## ")[0].splitlines() if line.startswith("| [`")]
    names = architecture.names()
    rows = [f"| [`{name}`](#{name}) | {' | '.join(networks.row(name)[1:])} |" for name in names]
    assert table == rows


def test_a_narrow_terminal_breaks_no_number(monkeypatch):
    names = ["unet_lite0", "unet_vgg19_attention_reference"]
    monkeypatch.setattr(architecture, "names", lambda: names)
    text = printed(networks.show, width=60, force_terminal=True, color_system=None)
    rows = [line.split() for line in text.splitlines()]
    light = next(row for row in rows if row[:1] == ["unet_lite0"])
    assert light[2:4] == ["3,538,071", "1.19"]
    assert "29,424,802 27.88" in " ".join(text.split())
    assert "…" not in text


def test_one_network():
    text = printed(networks.show_one, "unet_lite0", width=120)
    assert text.startswith("unet_lite0: A light U-Net on EfficientNet-Lite0 for CPUs")
    assert "Total params: 3,538,071" in text
    assert "block5c_add" in text
    assert "(None, 64, 64, 2)" in text


def test_a_wrong_name():
    with pytest.raises(NetworkError, match="did you mean unet_lite0"):
        printed(networks.show_one, "unet_lit0")
