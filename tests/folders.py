"""Nothing a test does reaches the user's own cache or manifest."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches and manifests of the tests, one for each worker; all share the converted networks."""
    folder = tmp_path_factory.getbasetemp()
    share_converted(folder / "cache", tmp_path_factory)
    patch = pytest.MonkeyPatch()
    patch.setenv("LUNGBOX_CACHE", str(folder / "cache"))
    patch.setenv("LUNGBOX_HOME", str(folder / "home"))
    yield
    patch.undo()


def share_converted(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let an empty cache have the networks that any test converted for OpenVINO in this run."""
    folder = tmp_path_factory.getbasetemp()
    run = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    (run / "converted").mkdir(exist_ok=True)
    cache.mkdir(parents=True)
    (cache / "openvino").symlink_to(run / "converted")
