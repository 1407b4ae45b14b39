"""A training run is a TOML file: these are its keys."""

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from lungbox.errors import LungboxError
from lungbox.radiograph.prepare import Preparation


class RecipeError(LungboxError):
    """A recipe cannot be used; the message says which key and why."""


Share = Annotated[float, Field(ge=0)]


def _rising(values: tuple[float, float]) -> tuple[float, float]:
    if not 0 < values[0] <= values[1]:
        raise ValueError("two numbers above 0 are needed, the smaller first")
    return values


Range = Annotated[tuple[float, float], AfterValidator(_rising)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Section):
    """Which images are learned from, and how often each is seen.

    Attributes:
        folds: the folds trained on; every other is never looked at.
        preparation: see `radiograph.prepare`.
        order: `drawn` draws an epoch's images by the weights below; `fixed` takes every image
            once, in an order that is the same in every epoch, as the reference system does.
        samples_per_epoch: images drawn for one epoch, with replacement across epochs.
        source_weights: how often an image of a data set is drawn, against the others.
        category_weights: the same for a class of image, on top.
        balance: attributes over whose combinations, within a data set, draws are evened out.
        shape: whether a box is painted as a rectangle or as the ellipse inside it.
        edges: `soft` paints the share of a mask pixel that is covered, `hard` 1 where its centre
            is and 0 elsewhere.
    """

    folds: tuple[int, ...] = Field((1, 2, 3, 4), min_length=1)
    preparation: Preparation = "equalised"
    order: Literal["drawn", "fixed"] = "drawn"
    samples_per_epoch: int | None = Field(None, gt=0)
    source_weights: dict[str, Share] = {}
    category_weights: dict[str, Share] = {}
    balance: tuple[Literal["view", "target"], ...] = ()
    shape: Literal["rectangle", "ellipse"] = "rectangle"
    edges: Literal["soft", "hard"] = "soft"

    @model_validator(mode="after")
    def _drawn_or_fixed(self) -> "Data":
        weighted = self.source_weights or self.category_weights or self.balance
        if self.order == "fixed" and (self.samples_per_epoch or weighted):
            raise ValueError("a fixed order takes every image once: no number and no weights")
        if self.order == "drawn" and not self.samples_per_epoch:
            raise ValueError("samples_per_epoch is missing")
        return self


class Augmentation(_Section):
    """Probabilities in 0-1, angles in degrees, shifts as shares of the side.

    Attributes:
        enabled: whether anything is done at all.
    """

    enabled: bool = True
    flip: float = Field(0.5, ge=0, le=1)
    rotate: float = Field(10, ge=0)
    scale: Range = (0.85, 1.15)
    shift: float = Field(0.06, ge=0)
    shear: float = Field(4, ge=0)
    gamma: Range = (0.7, 1.4)
    clahe: float = Field(0.15, ge=0, le=1)
    blur: float = Field(0.15, ge=0, le=1)
    noise: float = Field(0.15, ge=0, le=1)
    jpeg: float = Field(0.2, ge=0, le=1)
    erase_corner: float = Field(0.4, ge=0, le=1)


class Loss(_Section):
    """Weights of the loss's terms.

    Attributes:
        bce, iou: of the mask's binary cross-entropy and of its 1 - IoU.
        channels: what the IoU is of, see `metrics.losses.soft_iou`.
        image: of the image score's binary cross-entropy, where the network has one.
        label_smoothing: the image targets become this half away from 0 and 1, so that the score
            does not saturate on images that are learned by heart.
    """

    bce: float = Field(0.5, ge=0)
    iou: float = Field(0.5, ge=0)
    channels: Literal["all", "foreground", "each"] = "foreground"
    image: float = Field(1.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class Optimizer(_Section):
    """AdamW under a schedule, and the moving average that is kept.

    Attributes:
        learning_rate: its height after the warm-up, for decoder and heads.
        encoder_learning_rate: the same for a pretrained encoder.
        schedule: after the warm-up, `cosine` falls to 0 at the last step, `constant` stays.
        warmup: share of all steps over which it rises from 0.
        weight_decay: decoupled; not on biases and normalisation. 0 makes it Adam.
        clip_norm: the gradient's largest norm; 0 lets it be.
        ema: momentum of the moving average of the weights; 0 keeps the last weights.
    """

    learning_rate: float = Field(1e-3, gt=0)
    encoder_learning_rate: float = Field(3e-4, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(5.0, ge=0)
    ema: float = Field(0.998, ge=0, lt=1)


class Stage(_Section):
    """Some epochs at one image size.

    Attributes:
        epochs: how many.
        image_size: side of the square, in pixels.
        source_weights: how often an image of a data set is drawn, in place of the recipe's own;
            0 leaves it out.
    """

    epochs: int = Field(gt=0)
    image_size: int = Field(gt=0, multiple_of=32)
    source_weights: dict[str, Share] = {}


class Recipe(_Section):
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
    """

    name: str = Field(pattern=r"^[A-Za-z0-9_{-][A-Za-z0-9._{}-]*$")
    architecture: str
    encoder_weights: str = Field("imagenet", pattern=r"^(imagenet|none|.+\.(safetensors|h5))$")
    batch_size: int = Field(gt=0)
    seed: int = 2024
    policy: Literal["float32", "mixed_bfloat16"] = "float32"
    options: dict[str, float] = {}
    data: Data
    augmentation: Augmentation = Augmentation()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    stages: tuple[Stage, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _an_epoch_has_a_batch(self) -> "Recipe":
        drawn = self.data.samples_per_epoch
        if drawn is not None and drawn < self.batch_size:
            raise ValueError("data.samples_per_epoch is less than one batch")
        return self

    @property
    def label(self) -> str:
        """The name, filled in."""
        return self.name.replace("{architecture}", self.architecture)

    @property
    def encoder_file(self) -> Path | None:
        """The file the encoder starts from, where it does."""
        known = ("imagenet", "none")
        return None if self.encoder_weights in known else Path(self.encoder_weights)

    @property
    def image_size(self) -> int:
        """The largest image size of all stages, which images are cached at."""
        return max(stage.image_size for stage in self.stages)

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
        path: a TOML file.
        changes: set on top of it, each `KEY=VALUE` with the value in TOML (a word may do without
            its quotes) and the key with dots, as in `optimizer.learning_rate=1e-4`.

    Raises:
        RecipeError: it is missing, not TOML, or a key is unknown or out of range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        for change in changes:
            _set(values, change)
        return Recipe.model_validate(values)
    except FileNotFoundError:
        raise RecipeError(f"{path}: there is no such recipe") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a TOML file ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the recipe as a whole"
        raise RecipeError(f"{path}: {where}: {first['msg']}") from error


def _set(values: dict[str, Any], change: str) -> None:
    """Set one key of a recipe's values."""
    key, equals, text = change.partition("=")
    if not equals:
        raise RecipeError(f"--set {change}: give KEY=VALUE, as in batch_size=16")
    *sections, last = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise RecipeError(f"--set {change}: {section} has no keys of its own")
    try:
        values[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        values[last] = text.strip()
