"""What tests of whole runs share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure

_DRAW = Figure.savefig


@pytest.fixture(scope="package", autouse=True)
def _empty_pictures() -> Iterator[None]:
    """An empty file stands for the picture of a run's history: it is drawn anew after each epoch,
    which takes longer than the small networks' epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", _leave_empty)
        yield


@pytest.fixture
def drawn_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of pictures."""
    monkeypatch.setattr(Figure, "savefig", _DRAW)


def _leave_empty(_: Figure, file: object, **__: object) -> None:
    if isinstance(file, str | Path):
        Path(file).touch()
