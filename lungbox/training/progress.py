"""Progress of a training run: the interface, and its display on a terminal."""

from collections.abc import Callable
from contextlib import ExitStack

from rich.console import Console

from lungbox.common.progress import ProgressBar, progress_bar
from lungbox.training.loggers import EpochMetrics, held_out_score


class TrainingProgress:
    """Is notified of the progress of a run; this base class ignores it."""

    def reading(self, images: int) -> Callable[[], object]:
        """Images are about to be read; the result is called after each."""
        del images
        return lambda: None

    def predicting_with_teacher(self, images: int) -> Callable[[int], object]:
        """The teacher is about to predict images; the result is called with the number done."""
        del images
        return lambda _: None

    def training(self, steps: int, done: int, batch_size: int) -> None:
        """Training begins: steps of the complete run, and those done before it was resumed."""

    def step(self, loss: float) -> None:
        """A training step has finished; `loss` is the epoch's running mean."""

    def epoch(self, epoch: EpochMetrics) -> None:
        """An epoch has finished."""

    def note(self, message: str) -> None:
        """A message for the user."""


class TerminalProgress(TrainingProgress):
    """Progress bars for reading, the teacher and training, and a line for each epoch."""

    def __init__(self, console: Console, stack: ExitStack) -> None:
        self._console, self._stack = console, stack
        self._bar: ProgressBar | None = None
        self._batch_size = 1

    def reading(self, images: int) -> Callable[[], object]:
        return self._show("Reading", images).advance

    def predicting_with_teacher(self, images: int) -> Callable[[int], object]:
        return self._show("Predicting with the teacher", images).advance

    def training(self, steps: int, done: int, batch_size: int) -> None:
        self._batch_size = batch_size
        self._bar = self._show("Training", steps * batch_size, done * batch_size)

    def step(self, loss: float) -> None:
        if self._bar is not None:
            self._bar.advance(self._batch_size)
            self._bar.describe(f"Training, loss {loss:.3f}")

    def epoch(self, epoch: EpochMetrics) -> None:
        self._console.print(epoch_line(epoch), markup=False)

    def note(self, message: str) -> None:
        self._console.print(message, markup=False)

    def _show(self, text: str, total: int, done: int = 0) -> ProgressBar:
        """Replace the bar that is shown."""
        self._stack.close()
        return self._stack.enter_context(progress_bar(self._console, text, total, done))


def epoch_line(epoch: EpochMetrics) -> str:
    """An epoch's metrics as one line for the terminal.

    Example:
        >>> epoch_line(EpochMetrics(3, {"loss": 0.5, "mask_loss": 0.5, "seconds": 2.0,
        ...     "images_per_second": 8.0, "val_loss": 0.75, "rsna_metric": 0.25, "auc": 0.875}))
        'epoch 3: loss 0.5000 (mask 0.5000), held out: loss 0.7500, RSNA metric 0.250, AUC 0.875, 2 s, 8.0 images/s'
    """  # noqa: E501
    parts = [f"{name.removesuffix('_loss')} {value:.4f}" for name, value in epoch.known.items()
             if name.endswith("_loss") and not name.startswith("val_")]  # fmt: skip
    text = f"epoch {epoch.epoch}: loss {epoch.loss:.4f} ({', '.join(parts)})"
    if held_out_score(epoch) is not None:
        titles = {"val_loss": "loss", "rsna_metric": "RSNA metric", "map": "mAP", "auc": "AUC"}
        digits = {"val_loss": 4}
        shown = [f"{title} {epoch.known[name]:.{digits.get(name, 3)}f}"
                 for name, title in titles.items() if name in epoch.known]  # fmt: skip
        text += f", held out: {', '.join(shown)}"
    return f"{text}, {epoch.seconds:.0f} s, {epoch.images_per_second:.1f} images/s"
