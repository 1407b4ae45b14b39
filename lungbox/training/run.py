"""`lungbox train` and `distill`: runs shown on the terminal, their results in the manifest."""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from lungbox import architecture
from lungbox.constants import FOLDS
from lungbox.paths import cache_folder
from lungbox.progress import Bar, bar
from lungbox.training import fit
from lungbox.training.job import Job, Progress
from lungbox.training.out_of_fold import keep_out_of_fold
from lungbox.training.recipe import Recipe, RecipeError, load_recipe
from lungbox.training.teacher import folds_seen
from lungbox.training.tracking import Epoch, WeightsAndBiases, read_log
from lungbox.weights.fetch import sha256
from lungbox.weights.manifest import Ensemble, Weights, enter, enter_ensemble

# An untuned operating point: the larger channel decides, and 0.5 % of the image is enough.
_UNTUNED = "not tuned: run `python -m lungbox tune` on a fold it was not trained on"


@dataclass(frozen=True)
class Request:
    """What is to be trained.

    Attributes:
        recipe: a TOML file.
        data: the labelled radiographs.
        folder: the run's folder; `runs/NAME` where None.
        changes: to the recipe, see `training.recipe.load_recipe`.
        unlabelled: a folder of more radiographs, for distillation.
        project: of Weights & Biases, where the run is to be shown.
    """

    recipe: Path
    data: Path
    folder: Path | None = None
    changes: tuple[str, ...] = ()
    unlabelled: Path | None = None
    project: str = ""


def run(request: Request, say: Console) -> str:
    """Train, show how it goes, and enter the result under a name of its own.

    Returns:
        The name of the new weights and of the ensemble of them alone.

    Raises:
        LungboxError: the recipe, the data or the encoder's weights are not as they should be.
    """
    recipe = load_recipe(request.recipe, request.changes)
    folder = request.folder or Path("runs") / recipe.label
    trackers = []
    if request.project:
        settings = recipe.model_dump(mode="json")
        digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
        trackers.append(WeightsAndBiases(request.project, f"{recipe.label}-{digest}", settings))
    job = Job(
        recipe=request.recipe,
        data=request.data,
        run=folder,
        cache=cache_folder(),
        changes=request.changes,
        unlabelled=request.unlabelled,
        trackers=trackers,
    )
    with ExitStack() as stack:
        path = fit.train(job, _OnTerminal(say, stack))
    name = _enter(recipe, request, path)
    _say_entered(name, say)
    return name


def run_all_folds(request: Request, say: Console) -> str:
    """Train once for each fold, on the others, and keep what each says of the fold left out.

    Each run is a folder `fold-K` in the request's; `out_of_fold.npz` beside them holds the maps
    and image scores of all images, each by the weights that have not seen its fold.

    Returns:
        The name of the ensemble of all of them.

    Raises:
        LungboxError: as `run`, or a network would have seen the fold it is to be asked about.
    """
    recipe = load_recipe(request.recipe, request.changes)
    if recipe.validation.patience:
        raise RecipeError("--folds all: without patience, by which each fold would choose weights")
    if recipe.distillation and folds_seen(recipe.distillation.teacher):
        raise RecipeError(
            f"--folds all: {recipe.distillation.teacher}, the teacher, has seen folds that its "
            "students are to be asked about"
        )
    folder = request.folder or Path("runs") / recipe.label
    names = []
    for fold in range(FOLDS):
        others = [other for other in range(FOLDS) if other != fold]
        changes = [f"data.folds={others}", f"name='{recipe.name}-fold{fold}'"]
        if recipe.validation.fold is not None:
            changes.append(f"validation.fold={fold}")
        say.print(f"Fold {fold}, trained on the others", markup=False)
        one = replace(
            request,
            folder=folder / f"fold-{fold}",
            changes=(*request.changes, *changes),
        )
        names.append(run(one, say))
    path = keep_out_of_fold(names, request.data, folder / "out_of_fold.npz", say)
    digest = hashlib.sha256(" ".join(names).encode()).hexdigest()[:8]
    name = f"{recipe.label}-folds-{digest}"
    alone = _alone(names[0], recipe)
    enter_ensemble(name, alone.model_copy(update={"members": tuple(names)}))
    say.print(f"{path}: what each says of the fold it has not seen", markup=False)
    _say_entered(name, say)
    return name


def _say_entered(name: str, say: Console) -> None:
    command = f"python -m lungbox predict IMAGE_DIR --ensemble {name}"
    say.print(f"Entered as {name}: {command}", markup=False)


def _enter(recipe: Recipe, request: Request, path: Path) -> str:
    digest = sha256(path)
    name = f"{recipe.label}-{digest[:8]}"
    folds = set(recipe.data.folds)
    if recipe.distillation:
        folds |= folds_seen(recipe.distillation.teacher)
    weights = Weights(
        architecture=recipe.architecture,
        image_size=_image_size(recipe, path.parent),
        sha256=digest,
        bytes=path.stat().st_size,
        sources=(f"file:{path.resolve()}",),
        recipe=" ".join([str(request.recipe), *(f"--set {c}" for c in request.changes)]),
        folds=tuple(sorted(folds)),
        selected_on=recipe.validation.fold if recipe.validation.patience else None,
    )
    enter(name, weights, _alone(name, recipe))
    return name


def _alone(name: str, recipe: Recipe) -> Ensemble:
    reference = architecture.describe(recipe.architecture).reference
    note = "the reference system's box rule" if reference else _UNTUNED
    return Ensemble.alone(name, reference=reference, preparation=recipe.preparation, note=note)


def _image_size(recipe: Recipe, run: Path) -> int:
    """That of the epoch whose weights were kept: the best, where the recipe was after it."""
    epoch = fit.best_epoch(read_log(run)) if recipe.validation.patience else 0
    return recipe.image_size_of(epoch or recipe.epochs)


class _OnTerminal(Progress):
    """Bars for reading, asking and training, and a line for each epoch."""

    def __init__(self, say: Console, stack: ExitStack) -> None:
        self._say, self._stack = say, stack
        self._bar: Bar | None = None
        self._batch_size = 1

    def reading(self, images: int) -> Callable[[], object]:
        return self._stack.enter_context(bar(self._say, "Reading", images)).advance

    def teaching(self, images: int) -> Callable[[int], object]:
        self._stack.close()
        return self._stack.enter_context(bar(self._say, "Asking the teacher", images)).advance

    def training(self, steps: int, done: int, batch_size: int) -> None:
        self._stack.close()
        self._batch_size = batch_size
        total, done = steps * batch_size, done * batch_size
        self._bar = self._stack.enter_context(bar(self._say, "Training", total, done))

    def step(self, loss: float) -> None:
        if self._bar is not None:
            self._bar.advance(self._batch_size)
            self._bar.describe(f"Training, loss {loss:.3f}")

    def epoch(self, epoch: Epoch) -> None:
        figures = epoch.known
        parts = [f"{name.removesuffix('_loss')} {value:.4f}" for name, value in figures.items()
                 if name.endswith("_loss")]  # fmt: skip
        text = f"epoch {epoch.epoch}: loss {epoch.loss:.4f} ({', '.join(parts)})"
        if "rsna_metric" in figures:
            text += f", held out: RSNA metric {epoch.rsna_metric:.3f}, AUC {epoch.auc:.3f}"
        speed = f"{epoch.images_per_second:.1f} images/s"
        self._say.print(f"{text}, {epoch.seconds:.0f} s, {speed}", markup=False)

    def note(self, sentence: str) -> None:
        self._say.print(sentence, markup=False)
