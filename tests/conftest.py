"""Fixtures every test may use. Nothing a test does reaches the user's own cache or manifest."""

import os
import signal
from pathlib import Path

import pytest

# A shell ignores Ctrl-C for what it starts in the background, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before anything imports them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has a core; with a thread for every core they would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if SHARED.is_dir():
        return
    absent = pytest.mark.skip(reason="needs the real radiographs in ../shared/data")
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(absent)


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory):
    """Caches and manifests of the tests; the converted networks are shared by one whole run."""
    folder = tmp_path_factory.getbasetemp()
    patch = pytest.MonkeyPatch()
    patch.setenv("LUNGBOX_CACHE", str(folder / "cache"))
    patch.setenv("LUNGBOX_HOME", str(folder / "home"))
    yield
    patch.undo()


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty manifest of the user's own, for this test alone."""
    monkeypatch.setenv("LUNGBOX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def examples() -> Path:
    """The radiographs that come with Lungbox."""
    return ROOT / "examples"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real radiographs; only for tests marked `real`."""
    return SHARED
