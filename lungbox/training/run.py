"""`lungbox train`: a run shown on the terminal, and its result entered in the manifest."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from lungbox.paths import cache_folder
from lungbox.progress import Bar, bar
from lungbox.training import fit
from lungbox.training.recipe import Recipe, load_recipe
from lungbox.weights.fetch import sha256
from lungbox.weights.manifest import Ensemble, Weights, enter

# An untuned operating point: the larger channel decides, and 0.5 % of the image is enough.
_UNTUNED = "not tuned: run `python -m lungbox evaluate` on a fold it was not trained on"


def run(
    recipe_path: Path,
    data: Path,
    folder: Path | None,
    say: Console,
    changes: Sequence[str] = (),
) -> str:
    """Train, show how it goes, and enter the result under a name of its own.

    Args:
        recipe_path: the recipe.
        data: the labelled radiographs.
        folder: the run's folder; `runs/NAME` where None.
        say: where progress is shown.
        changes: to the recipe, see `training.recipe.load_recipe`.

    Returns:
        The name of the new weights and of the ensemble of them alone.

    Raises:
        LungboxError: the recipe, the data or the encoder's weights are not as they should be.
    """
    recipe = load_recipe(recipe_path, changes)
    folder = folder or Path("runs") / recipe.label
    with ExitStack() as stack:
        progress = _OnTerminal(say, stack)
        path = fit.train(recipe_path, data, folder, cache_folder(), progress, changes)
    name = _enter(recipe, recipe_path, path)
    say.print(f"Entered as {name}: python inference.py IMAGE_DIR --ensemble {name}", markup=False)
    return name


def _enter(recipe: Recipe, recipe_path: Path, path: Path) -> str:
    digest = sha256(path)
    name = f"{recipe.label}-{digest[:8]}"
    weights = Weights(
        architecture=recipe.architecture,
        image_size=recipe.stages[-1].image_size,
        sha256=digest,
        bytes=path.stat().st_size,
        sources=(f"file:{path.resolve()}",),
        recipe=str(recipe_path),
        folds=recipe.data.folds,
    )
    alone = Ensemble(members=(name,), preparation=recipe.data.preparation, note=_UNTUNED)
    enter(name, weights, alone)
    return name


class _OnTerminal(fit.Progress):
    """Bars for reading and training, and a line for each epoch."""

    def __init__(self, say: Console, stack: ExitStack) -> None:
        self._say, self._stack = say, stack
        self._bar: Bar | None = None
        self._batch_size = 1

    def reading(self, images: int) -> Callable[[], object]:
        return self._stack.enter_context(bar(self._say, "Reading", images)).advance

    def training(self, steps: int, done: int, batch_size: int) -> None:
        self._stack.close()
        self._batch_size = batch_size
        total, done = steps * batch_size, done * batch_size
        self._bar = self._stack.enter_context(bar(self._say, "Training", total, done))

    def step(self, loss: float) -> None:
        if self._bar is not None:
            self._bar.advance(self._batch_size)
            self._bar.describe(f"Training, loss {loss:.3f}")

    def epoch(self, epoch: fit.Epoch) -> None:
        parts = {"mask": epoch.mask_loss, "image": epoch.image_loss}
        shown = ", ".join(f"{head} {loss:.4f}" for head, loss in parts.items() if loss == loss)
        self._say.print(
            f"epoch {epoch.epoch}: loss {epoch.loss:.4f} ({shown}), {epoch.seconds:.0f} s"
        )

    def note(self, sentence: str) -> None:
        self._say.print(sentence, markup=False)
