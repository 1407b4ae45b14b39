"""Fixtures every test may use."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.other_backend import OtherBackend

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
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

# `make test` draws the same few examples every time; `make test-long` new ones, and more.
settings.register_profile("quick", max_examples=25, derandomize=True, deadline=None)
settings.register_profile("full", max_examples=200, deadline=None)
settings.load_profile("quick")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = pytest.mark.skip(reason="needs the real radiographs in ../shared/data")
    for item in items:
        if item.get_closest_marker("real") and not SHARED.is_dir():
            item.add_marker(absent)
        long, release = item.get_closest_marker("long"), item.get_closest_marker("release")
        if long and not long.args:
            raise pytest.UsageError(f"{item.nodeid}: give a reason, long('trains 200 steps')")
        if release and not long:
            raise pytest.UsageError(f"{item.nodeid}: `release` is for tests that are `long`")
    # Modules with slow tests begin first, so that no worker ends long after the other.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    gc.freeze()  # what is imported stays; to look through it in every collection takes 4 % of a run


@pytest.fixture(scope="session")
def other_backend() -> Iterator[OtherBackend]:
    """JAX, or TensorFlow where the tests run on JAX, in a process of its own."""
    pytest.importorskip("jax")
    import keras

    name = "jax" if keras.backend.backend() == "tensorflow" else "tensorflow"
    with OtherBackend(name) as other:
        yield other


@pytest.fixture(scope="module")
def small_networks() -> Iterator[None]:
    """Networks of two convolutions, known by name in one module alone:
    `usefixtures("small_networks")`."""
    from tests.small import registered

    with registered():
        yield


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
