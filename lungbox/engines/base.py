"""What every engine is: prepared radiographs in, masks and image scores out."""

import hashlib
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lungbox.errors import LungboxError
from lungbox.radiograph.prepare import Preparation
from lungbox.weights.computation import Facts, facts, key_of
from lungbox.weights.entries import FASTER, Precision
from lungbox.weights.fetch import sha256
from lungbox.weights.manifest import Ensemble, Weights


@dataclass(frozen=True)
class Member:
    """One network of an ensemble, its checked weight file and its share of the average."""

    name: str
    weights: Weights
    path: Path
    share: float

    @cached_property
    def sha256(self) -> str:
        """Of the file: the manifest's, or its own where the manifest does not know it."""
        return self.weights.sha256 or sha256(self.path)

    @property
    def facts(self) -> Facts:
        """All of it that decides an ensemble's answers, for the keys of what is kept of them."""
        return facts(self.sha256, self.weights, self.share)


@dataclass(frozen=True)
class Int8:
    """An ensemble as one INT8 model: its checked file, see `openvino.save_int8`."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Job:
    """What an engine is to run.

    Attributes:
        ensemble: for messages, its name.
        members: its networks.
        batch_size: images in one batch; the last is padded, so that the shape never changes.
        preparation: how radiographs become its input.
        keep_members: whether each member's masks are wanted, too.
        flip: whether each radiograph is also read mirrored, see `ask`.
        precisions: the types it may compute in; an engine takes the fastest that it can, and
            says so where there is only one and it cannot.
        int8: what it runs in 8-bit integers; None where it may not.
        notes: what is faster and may not, or cannot, be taken, and why.
        checked_elsewhere: whether other precisions were checked at another operating point.
    """

    ensemble: str
    members: tuple[Member, ...]
    batch_size: int
    preparation: Preparation = "equalised"
    keep_members: bool = False
    flip: bool = False
    precisions: tuple[Precision, ...] = ("float32",)
    int8: Int8 | None = None
    notes: tuple[tuple[str, str], ...] = ()
    checked_elsewhere: bool = False

    @property
    def only(self) -> Precision | None:
        """The type it has to compute in; None where there is a choice."""
        return self.precisions[0] if len(self.precisions) == 1 else None

    def without(self, precision: Precision, reason: str) -> "Job":
        """The same, but never in `precision`, for that reason."""
        left = tuple(other for other in self.precisions if other != precision)
        int8 = None if precision == "int8" else self.int8
        return replace(self, precisions=left, int8=int8).noting(precision, reason)

    def noting(self, what: str, reason: str) -> "Job":
        """The same, with why something that is faster was not taken."""
        return replace(self, notes=(*self.notes, (what, reason)))

    @property
    def key(self) -> str:
        """What is known of it in other precisions is entered under this."""
        return key_of([member.facts for member in self.members], self.preparation, self.flip)

    @property
    def image_size(self) -> int:
        """Side of the prepared square all members can be given, in pixels."""
        return max(member.weights.image_size for member in self.members)


class Prediction(NamedTuple):
    """What an ensemble says of a batch.

    Attributes:
        masks: `(N, h, w, 2)` float32, background and opacity.
        scores: `(N,)` float32, image scores.
        members: `(N, M, h, w, 2)` float32, the M members' own masks where the job keeps them.
    """

    masks: NDArray[np.float32]
    scores: NDArray[np.float32]
    members: NDArray[np.float32] | None


# What is said of an image whose prediction is not `finite`.
NOT_FINITE = (
    "the networks' answer to it is not finite (NaN or infinite); "
    "check their weights, or try --precision float32"
)


def finite(predicted: Prediction) -> NDArray[np.bool_]:
    """`(N,)`: which images of a batch have a mask and a score without NaN and infinity."""
    return np.isfinite(predicted.masks).all(axis=(1, 2, 3)) & np.isfinite(predicted.scores)


class Engine(Protocol):
    """Runs an ensemble; several threads may ask it.

    Attributes:
        name: `keras` or `openvino`.
        precision: the type it computes in.
        job: what it runs; its notes say what is faster and was not taken.
    """

    name: str
    precision: Precision
    job: Job

    def predict(self, images: NDArray[np.uint8]) -> Prediction:
        """Run one batch: `(N, S, S)` uint8 prepared, N at most the job's batch size."""
        ...


class EngineError(LungboxError):
    """An engine cannot run here; the message says why and which can."""


class NotConvertibleError(EngineError):
    """An engine needs networks in a form that nothing here can make of them."""


def chosen(engine: Engine) -> str:
    """A sentence: what an engine computes in, and why in nothing faster."""
    precision, job = engine.precision, engine.job
    title = {"openvino": "OpenVINO", "keras": "Keras"}.get(engine.name, engine.name)
    parts = [f"Computed in {precision} by {title}"]
    if job.checked_elsewhere and precision != "float32":
        parts.append(f"{precision} was checked at another operating point")
    rank: dict[str, int] = {name: n for n, name in enumerate((*FASTER, "float32"), start=1)}
    faster = [note for note in job.notes if rank.get(note[0], 0) < rank[precision]]
    faster.sort(key=lambda note: rank.get(note[0], 0))
    parts += [f"not {what}: {reason}" for what, reason in faster]
    return "; ".join(parts) + "."


def computed_by(engine: Engine) -> list[str]:
    """What, beside its job's members, decides an engine's answers to the last bit."""
    found = [engine.name, engine.precision, code()]
    if engine.precision == "int8" and engine.job.int8:
        found.append(engine.job.int8.sha256)
    return found


@cache
def code() -> str:
    """Changes when the code of networks and engines does: what they computed before is void."""
    package = Path(__file__).parent.parent
    sources = sorted(
        path for room in ("architecture", "engines") for path in (package / room).glob("*.py")
    )
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def ask(engine: Engine, images: NDArray[np.uint8]) -> Prediction:
    """What an engine says of a batch; where its job wants it, averaged with what it says of the
    mirrored batch, mirrored back."""
    seen = engine.predict(images)
    if not engine.job.flip:
        return seen
    mirrored = engine.predict(np.ascontiguousarray(images[:, :, ::-1]))
    half = np.float32(0.5)
    kept = None
    if seen.members is not None and mirrored.members is not None:
        kept = half * (seen.members + mirrored.members[..., ::-1, :])
    masks = half * (seen.masks + mirrored.masks[:, :, ::-1])
    return Prediction(masks, half * (seen.scores + mirrored.scores), kept)


def members(
    ensemble: Ensemble, weights: dict[str, Weights], paths: list[Path]
) -> tuple[Member, ...]:
    """The members of `ensemble`, in its order, with the files of their weights."""
    return tuple(
        Member(name, weights[name], path, share)
        for name, path, share in zip(ensemble.members, paths, ensemble.shares, strict=True)
    )


def padded(images: NDArray[np.uint8], batch_size: int) -> NDArray[np.uint8]:
    """`images` and as many black ones as make a batch."""
    missing = batch_size - len(images)
    if missing == 0:
        return images
    return np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
