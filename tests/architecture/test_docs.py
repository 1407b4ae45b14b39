"""docs/networks.md says what the code has now."""

import importlib.util
import re
from types import ModuleType

import pytest

from lungbox import architecture
from tests.conftest import ROOT

PAGE = ROOT / "docs/networks.md"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("networks_page", ROOT / "docs/networks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_page_is_what_the_code_would_write(generator):
    page = PAGE.read_text(encoding="utf-8")
    assert generator.filled(page) == page, "write it anew: python docs/networks.py"


def test_every_network_has_its_block():
    blocks = re.findall(r"<!-- generated: (\w+) -->", PAGE.read_text(encoding="utf-8"))
    assert blocks == ["table", *architecture.names()]


def test_prose_is_left_alone(generator, monkeypatch):
    monkeypatch.setattr(architecture, "names", lambda: ["unet_lite0"])
    page = "Before.\n<!-- generated: unet_lite0 -->\nold\n<!-- end -->\nAfter.\n"
    written = generator.filled(page)
    assert written.startswith("Before.\n<!-- generated: unet_lite0 -->\n```mermaid\n")
    assert written.endswith("```\n<!-- end -->\nAfter.\n")
    assert "old" not in written
    assert generator.filled(written) == written
