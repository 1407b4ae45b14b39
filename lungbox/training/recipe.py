"""A training run is a TOML file: these are its keys."""

import math
import re
import tomllib
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from lungbox import architecture
from lungbox.errors import LungboxError, hint
from lungbox.paths import shipped_recipes
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
from lungbox.weights.manifest import NAMED


class RecipeError(LungboxError):
    """A recipe cannot be used; the message says which key and why."""


class Recipe(Section):
    """One training run.

    Attributes:
        name: names the run's folder and its weights; `{architecture}` in it stands for that.
        architecture: a registered network.
        encoder_weights: what the encoder starts from: `imagenet`, `none`, or a file, given from
            the working folder (see `weights.imagenet.load_encoder`).
        image_size: the size images are cached at, the largest of all stages.
        batch_size: images in a step.
        seed: decides initial weights, order and augmentation.
        policy: Keras' dtype policy.
        devices: `one`, or `all` of this machine, which share each batch.
    """

    name: str = Field(max_length=100, pattern=r"^[A-Za-z0-9_{-][A-Za-z0-9._{}-]*$")
    architecture: str
    encoder_weights: str = Field("imagenet", pattern=r"^(imagenet|none|.+\.(safetensors|h5))$")
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
    def _an_epoch_has_a_batch(self) -> "Recipe":
        drawn = self.data.samples_per_epoch
        if drawn is not None and drawn < self.batch_size:
            raise ValueError("data.samples_per_epoch is less than one batch")
        return self

    @model_validator(mode="after")
    def _parts_fit_together(self) -> "Recipe":
        if not re.fullmatch(NAMED, self.label):
            raise ValueError(
                f"name: {self.label} cannot name a file; fill in all but {{architecture}}"
            )
        if self.data.order == "fixed" and any(stage.source_weights for stage in self.stages):
            raise ValueError("a fixed order takes every image once: no stage has source_weights")
        if self.distillation and self.loss.edges:
            raise ValueError("loss.edges: a teacher says nothing of edges")
        return self

    @model_validator(mode="after")
    def _validation_is_not_trained_on(self) -> "Recipe":
        if self.validation.fold in self.data.folds:
            raise ValueError(f"validation.fold {self.validation.fold} is among data.folds")
        return self

    @property
    def label(self) -> str:
        """The name, filled in."""
        return self.name.replace("{architecture}", self.architecture)

    @property
    def preparation(self) -> Preparation:
        """How radiographs are prepared: as the recipe says, or as its network wants them."""
        return self.data.preparation or architecture.describe(self.architecture).preparation

    @property
    def encoder_file(self) -> Path | None:
        """The file the encoder starts from, where it does."""
        known = ("imagenet", "none")
        return None if self.encoder_weights in known else Path(self.encoder_weights)

    @property
    def image_size(self) -> int:
        """The largest image size of all stages, which images are cached at."""
        return max(stage.image_size for stage in self.stages)

    def image_size_of(self, epoch: int) -> int:
        """The image size of an epoch, from 1; the last stage's beyond them all."""
        for stage, end in zip(
            self.stages, accumulate(stage.epochs for stage in self.stages), strict=True
        ):
            if epoch <= end:
                return stage.image_size
        return self.stages[-1].image_size

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return sum(stage.epochs for stage in self.stages)

    def steps_per_epoch(self, images: int) -> int:
        """Batches in one epoch over a data set of so many images.

        The last batch of a fixed order holds what is left.
        """
        drawn = self.data.samples_per_epoch
        return drawn // self.batch_size if drawn else math.ceil(images / self.batch_size)


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: a TOML file; one of Lungbox's own may be given by its name, see `find_recipe`.
        changes: set on top of it, each `KEY=VALUE` with the value in TOML (a word may do without
            its quotes) and the key with dots, as in `optimizer.learning_rate=1e-4`.

    Raises:
        RecipeError: it is missing, not TOML, or a key is unknown or out of range.
    """
    try:
        values = tomllib.loads(find_recipe(path).read_text(encoding="utf-8"))
        for change in changes:
            _set(values, change)
        return Recipe.model_validate(values)
    except FileNotFoundError:
        own = hint(path.stem, (file.stem for file in shipped_recipes().glob("*.toml")))
        raise RecipeError(f"{path}: there is no such recipe; of Lungbox's own, {own}") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise RecipeError(f"{path}: {_fault(error)}") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, for instance
        raise RecipeError(f"{path}: not a TOML file ({error})") from error


def find_recipe(path: Path) -> Path:
    """The file of a recipe: `path` itself; where it is not there and is a bare name (`lite0`,
    `lite0.toml`) or in `recipes/` (`recipes/lite0.toml`), Lungbox's own of that name. A folder
    called so does not stand in its way."""
    if (path.exists() and not path.is_dir()) or path.parent not in (Path(), Path("recipes")):
        return path
    own = shipped_recipes() / f"{path.name.removesuffix('.toml')}.toml"
    return own if own.is_file() else path


def _fault(error: ValidationError) -> str:
    """The first thing that is wrong, by key; for a key that is not known, the nearest that is."""
    # A misspelt key is also a missing one, which says less.
    first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"]) or "the recipe as a whole"
    if first["type"] != "extra_forbidden":
        return f"{where}: {first['msg']}"
    section: type[BaseModel] = Recipe
    for part in first["loc"][:-1]:
        section = _section(section, str(part))
    return f"{where}: there is no such key; {hint(str(first['loc'][-1]), section.model_fields)}"


def _section(of: type[BaseModel], part: str) -> type[BaseModel]:
    """The model behind a part of a key; a number is an item of the list before it."""
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
        raise RecipeError(f"--set {change}: {sections[-1]} is a list; say which of it, from 0")
    try:
        values[last] = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        values[last] = text.strip()
