"""What a training run is asked for, and whom it tells how it goes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lungbox.training.tracking import Epoch, Tracker


class Progress:
    """What a run tells whoever watches it; this one keeps silent."""

    def reading(self, images: int) -> Callable[[], object]:
        """That many images are about to be read; the result is called for each."""
        del images
        return lambda: None

    def teaching(self, images: int) -> Callable[[int], object]:
        """The teacher is asked about that many; the result is called with how many it was."""
        del images
        return lambda _: None

    def training(self, steps: int, done: int, batch_size: int) -> None:
        """Steps of the whole run, and those done in an earlier one."""

    def step(self, loss: float) -> None:
        """One step is done."""

    def epoch(self, epoch: Epoch) -> None:
        """One epoch is done."""

    def note(self, sentence: str) -> None:
        """Something the user should know."""


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        recipe: a TOML file, see `training.recipe`.
        data: a folder `datasets.load` knows.
        run: the run's folder. Where it holds an unfinished run of the same recipe, that run is
            continued after its last finished epoch.
        cache: where prepared images are kept.
        changes: to the recipe, see `load_recipe`.
        unlabelled: a folder of more radiographs, which only a teacher has an opinion on.
        trackers: are told of every epoch, beside those every run has.
    """

    recipe: Path
    data: Path
    run: Path
    cache: Path
    changes: Sequence[str] = ()
    unlabelled: Path | None = None
    trackers: Sequence[Tracker] = ()
