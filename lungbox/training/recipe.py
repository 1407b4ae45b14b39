"""Recipes, the TOML files that define a training run, and the configuration of one run."""

import math
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from lungbox import architecture
from lungbox.common.paths import cache_folder, shipped_recipes
from lungbox.datasets.label_sets import LABEL_SETS, LabelSet
from lungbox.errors import LungboxError, suggest
from lungbox.radiograph.prepare import Preparation
from lungbox.training.sections import (
    MOST_BATCH,
    Augmentation,
    Data,
    Distillation,
    Loss,
    Optimizer,
    Section,
    Stage,
    Validation,
)
from lungbox.weights.entries import NAMED

if TYPE_CHECKING:
    import keras


class RecipeError(LungboxError):
    """A recipe cannot be used; the message names the key and the reason."""


class Recipe(Section):
    """A training recipe.

    Attributes:
        name: name of the run's folder and of its weights; `{architecture}` in it is replaced by
            that key.
        architecture: a registered network.
        encoder_weights: initial weights of the encoder: `imagenet`, `none`, those of another
            network with the same encoder, by their name in the manifest (of weights, or of an
            ensemble of one network, such as `default`), or a file, relative to the working
            directory (see `weights.formats.imagenet.load_encoder`).
        initial_weights: weights of the same network with which training begins: a name in the
            manifest, or a `.safetensors` file relative to the working directory. Where empty, only
            the encoder has any.
        batch_size: images in a training step.
        seed: of initial weights, order and augmentation.
        policy: Keras' dtype policy.
        devices: `one`, or `all` of this machine, which share each batch.
        options: of the network's function.
    """

    name: str = Field(max_length=100, pattern=r"^[A-Za-z0-9_{-][A-Za-z0-9._{}-]*$")
    architecture: str
    encoder_weights: str = Field("imagenet", pattern=rf"{NAMED}|^.+\.(safetensors|h5)$")
    initial_weights: str = Field("", max_length=4096)
    batch_size: int = Field(gt=0, le=MOST_BATCH)
    seed: int = Field(2024, ge=0, lt=1 << 32)
    policy: Literal["float32", "mixed_bfloat16"] = "float32"
    devices: Literal["one", "all"] = "one"
    options: dict[str, float] = Field({})
    data: Data
    augmentation: Augmentation = Augmentation()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    validation: Validation = Validation()
    distillation: Distillation | None = None
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _check_samples_per_epoch(self) -> "Recipe":
        drawn = self.data.samples_per_epoch
        if drawn is not None and drawn < self.batch_size:
            raise ValueError("data.samples_per_epoch is less than one batch")
        return self

    @model_validator(mode="after")
    def _check_sections_together(self) -> "Recipe":
        if not re.fullmatch(NAMED, self.label):
            raise ValueError(
                f"name: {self.label} is no file name; the only placeholder is {{architecture}}"
            )
        if self.distillation and self.data.labels:
            raise ValueError("data.labels: not with distillation, which is of masks")
        if self.distillation and self.data.preparation == "padded":
            raise ValueError("data.preparation = padded: not with distillation")
        if self.distillation and self.data.weak_targets:
            raise ValueError("data.weak_targets: not with distillation")
        if self.data.order == "fixed" and any(stage.source_weights for stage in self.stages):
            raise ValueError("a fixed order takes each image once: no source_weights in stages")
        if self.distillation and self.loss.edges:
            raise ValueError("loss.edges: not with distillation, as a teacher predicts no edges")
        return self

    @model_validator(mode="after")
    def _check_validation_fold(self) -> "Recipe":
        if self.validation.fold in self.data.folds:
            raise ValueError(f"validation.fold {self.validation.fold} is among data.folds")
        return self

    @property
    def label(self) -> str:
        """The name with its placeholder replaced."""
        return self.name.replace("{architecture}", self.architecture)

    @property
    def preparation(self) -> Preparation:
        """The preparation of radiographs: the recipe's, or the default of its network."""
        return self.data.preparation or architecture.describe(self.architecture).preparation

    @property
    def encoder_name(self) -> str:
        """The name in the manifest of the encoder's initial weights; empty for other weights."""
        given = self.encoder_weights
        other = given in ("imagenet", "none") or given.endswith((".safetensors", ".h5"))
        return "" if other else given

    @property
    def label_set(self) -> LabelSet | None:
        """The labels that a classification network is trained on; None for other networks."""
        return LABEL_SETS[self.data.labels] if self.data.labels else None

    @property
    def image_size(self) -> int:
        """The largest image size of all stages, at which images are cached."""
        return max(stage.image_size for stage in self.stages)

    def image_size_of(self, epoch: int) -> int:
        """The image size of an epoch, from 1; beyond the last epoch the last stage's."""
        for stage, end in zip(
            self.stages, accumulate(stage.epochs for stage in self.stages), strict=True
        ):
            if epoch <= end:
                return stage.image_size
        return self.stages[-1].image_size

    @property
    def epochs(self) -> int:
        """The number of epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)

    def steps_per_epoch(self, images: int) -> int:
        """The number of batches in an epoch, for a data set of `images` images.

        The last batch of a fixed order may be incomplete.
        """
        drawn = self.data.samples_per_epoch
        return drawn // self.batch_size if drawn else math.ceil(images / self.batch_size)


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Args:
        path: a TOML file, or the name of one of Lungbox's own, see `find_recipe`.
        changes: override keys, each `KEY=VALUE` with the value in TOML (strings need no quotes)
            and a dotted key, as in `optimizer.learning_rate=1e-4`.

    Raises:
        RecipeError: it is missing, not TOML, or a key is unknown or out of range.

    Example:
        >>> load_recipe(Path("lite0"), ["batch_size=8"]).batch_size
        8
    """
    try:
        values = tomllib.loads(find_recipe(path).read_text(encoding="utf-8"))
        for change in changes:
            _set(values, change)
        return Recipe.model_validate(values)
    except FileNotFoundError:
        own = suggest(path.stem, (file.stem for file in shipped_recipes().glob("*.toml")))
        raise RecipeError(f"{path}: no such recipe; of Lungbox's own, {own}") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise RecipeError(f"{path}: {_first_error(error)}") from error
    except (ValueError, RecursionError) as error:  # also numbers with thousands of digits
        raise RecipeError(f"{path}: not a TOML file ({error})") from error


def find_recipe(path: Path) -> Path:
    """The file of a recipe.

    That is `path` itself; where there is no such file and it is a bare name (`lite0`,
    `lite0.toml`) or in `recipes/` (`recipes/lite0.toml`), Lungbox's own recipe of that name, even
    where a folder has that name.
    """
    if (path.exists() and not path.is_dir()) or path.parent not in (Path(), Path("recipes")):
        return path
    own = shipped_recipes() / f"{path.name.removesuffix('.toml')}.toml"
    return own if own.is_file() else path


def _first_error(error: ValidationError) -> str:
    """The first error and its key; for an unknown key, the most similar known one."""
    # A misspelt key is often reported as a missing one, too, which is less helpful.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"]) or "the recipe"
    if first["type"] != "extra_forbidden":
        return f"{where}: {first['msg']}"
    section: type[BaseModel] = Recipe
    for part in first["loc"][:-1]:
        section = _section(section, str(part))
    return f"{where}: no such key; {suggest(str(first['loc'][-1]), section.model_fields)}"


def _section(of: type[BaseModel], part: str) -> type[BaseModel]:
    """The section behind a part of a key; a number is an index into the list before it."""
    if part.isdigit():
        return of
    candidates: list[Any] = [of.model_fields[part].annotation]
    while candidates:
        found = candidates.pop()
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
        candidates += getattr(found, "__args__", ())
    return of


def _set(values: Any, change: str) -> None:
    """Set one key of a recipe's values."""
    key, equals, text = change.partition("=")
    if not equals:
        raise RecipeError(f"--set {change}: give KEY=VALUE, as in batch_size=16")
    *sections, last = key.strip().split(".")
    for section in sections:
        if isinstance(values, list) and section.isdigit() and int(section) < len(values):
            values = values[int(section)]
        elif isinstance(values, dict):
            values = values.setdefault(section, {})
        if not isinstance(values, dict | list):
            raise RecipeError(f"--set {change}: {section} has no keys of its own")
    if not isinstance(values, dict):
        raise RecipeError(f"--set {change}: {sections[-1]} is a list; give an index, from 0")
    try:
        values[last] = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        values[last] = text.strip()


def check_known(key: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Check that the names given under a key of a recipe are known.

    Raises:
        RecipeError: one is not; the message suggests the most similar.
    """
    names = set(known)
    for name in given:
        if name not in names:
            raise RecipeError(f"{key}: {name} is not known; {suggest(name, names)}")


@dataclass(frozen=True)
class TrainingConfig:
    """The configuration of one training run.

    Attributes:
        recipe: a TOML file, or the name of one of Lungbox's own.
        data: a folder with labelled radiographs, see `datasets.load`.
        run: the run's folder; `runs/NAME` where None. An unfinished run of the same recipe in it is
            resumed after its last finished epoch.
        changes: override keys of the recipe, see `load_recipe`.
        unlabelled: a folder of more radiographs, for distillation.
        wandb: a project of Weights & Biases to log to; none where empty.
        cache: the folder of prepared images.
        callbacks: Keras callbacks beside the run's own, called after validation and before the
            state is saved. One is used in a `fit` call for each stage.
    """

    recipe: Path
    data: Path
    run: Path | None = None
    changes: Sequence[str] = ()
    unlabelled: Path | None = None
    wandb: str = ""
    cache: Path = field(default_factory=cache_folder)
    callbacks: "Sequence[keras.callbacks.Callback]" = ()

    def load_recipe(self) -> Recipe:
        """The recipe with its changes; raises as `load_recipe` does."""
        return load_recipe(self.recipe, self.changes)

    def folder(self, recipe: Recipe) -> Path:
        """The run's folder."""
        return self.run or Path("runs") / recipe.label
