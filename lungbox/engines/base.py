"""What every engine is: prepared radiographs in, masks and image scores out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Detections, RawPrediction
from lungbox.constants import CLASS_NAMES, OPACITY
from lungbox.errors import LungboxError
from lungbox.radiograph.prepare import Preparation
from lungbox.weights.computation import Fingerprint, fingerprint, key_of
from lungbox.weights.entries import REDUCED_PRECISIONS, Precision
from lungbox.weights.fetch import sha256
from lungbox.weights.manifest import Ensemble, Weights


@dataclass(frozen=True)
class Member:
    """One network of an ensemble, its verified weight file and its weight in the mean."""

    name: str
    weights: Weights
    path: Path
    weight: float

    @cached_property
    def sha256(self) -> str:
        """Of the file: the manifest's, or its own where the manifest does not know it."""
        return self.weights.sha256 or sha256(self.path)

    @property
    def fingerprint(self) -> Fingerprint:
        """All of it that decides an ensemble's predictions, for the keys of cached ones."""
        return fingerprint(self.sha256, self.weights, self.weight)


@dataclass(frozen=True)
class Int8:
    """An ensemble as one INT8 model: its verified file, see `openvino.save_int8`."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is to run.

    Attributes:
        ensemble: its name, for messages.
        members: its networks.
        batch_size: images in one batch; the last is padded, so that the shape never changes.
        preparation: how radiographs become its input.
        keep_members: whether the members' own masks are requested, too.
        flip: whether each radiograph is also read mirrored, see `predict_with_tta`.
        gates: names of the members whose image scores make the ensemble's; all where empty.
        precisions: the types it may compute in; an engine takes the fastest that the processor
            supports, and raises where there is only one and it does not.
        int8: its INT8 model; None where that may not be used.
        notes: precisions or engines that are faster and were not taken, each with the reason.
        checked_elsewhere: whether other precisions were checked at another operating point.
    """

    ensemble: str
    members: tuple[Member, ...]
    batch_size: int
    preparation: Preparation = "equalised"
    keep_members: bool = False
    flip: bool = False
    gates: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = ("float32",)
    int8: Int8 | None = None
    notes: tuple[tuple[str, str], ...] = ()
    checked_elsewhere: bool = False

    @property
    def only(self) -> Precision | None:
        """The only type it may compute in; None where there are several."""
        return self.precisions[0] if len(self.precisions) == 1 else None

    def without(self, precision: Precision, reason: str) -> "EngineConfig":
        """The same, but never in `precision`, for that reason."""
        left = tuple(other for other in self.precisions if other != precision)
        int8 = None if precision == "int8" else self.int8
        return replace(self, precisions=left, int8=int8).noting(precision, reason)

    def noting(self, what: str, reason: str) -> "EngineConfig":
        """The same, with why something that is faster was not taken."""
        return replace(self, notes=(*self.notes, (what, reason)))

    @property
    def key(self) -> str:
        """The manifest's key for the checks of its other precisions."""
        return key_of(self.fingerprints, self.preparation, self.flip)

    @property
    def fingerprints(self) -> list[Fingerprint]:
        """All that decides the network's outputs, but for the code."""
        found = [member.fingerprint for member in self.members]
        return [*found, ["gates", *self.gates]] if self.gates else found

    @property
    def gate_rows(self) -> tuple[int, ...]:
        """The places of `gates` among the members."""
        names = [member.name for member in self.members]
        return tuple(names.index(name) for name in self.gates)

    @property
    def image_size(self) -> int:
        """Side of the prepared square image that all members are computed from, in pixels."""
        return max(member.weights.image_size for member in self.members)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of its boxes, by their index."""
        for member in self.members:
            if member.weights.kind != "classification":
                return member.weights.class_names
        return CLASS_NAMES[OPACITY:]

    @property
    def mask_names(self) -> list[str]:
        """The members that predict masks, which `keep_members` keeps."""
        return [m.name for m in self.members if m.weights.kind == "segmentation"]

    @property
    def image_labels(self) -> tuple[str, ...]:
        """The labels of its image-level probabilities, of its classification networks."""
        for member in self.members:
            if member.weights.kind == "classification":
                return member.weights.class_names
        return ()


class BatchPrediction(NamedTuple):
    """The prediction of an ensemble for a batch of N images.

    Attributes:
        masks: `(N, h, w, 1 + C)` float32, background and C classes; None without a segmentation
            network.
        scores: `(N,)` float32, image scores.
        members: `(N, M, h, w, 1 + C)` float32, the masks of the M segmentation networks, where the
            config keeps them.
        detections: of each detection network (and view of test-time augmentation) boxes
            `(N, K, 4)` in 0-1, scores `(N, K, C)` and its weight.
        classes: `(N, L)` float32, image-level probabilities of L labels; None without a
            classification network.
    """

    masks: NDArray[np.float32] | None
    scores: NDArray[np.float32]
    members: NDArray[np.float32] | None = None
    detections: tuple[tuple[NDArray[np.float32], NDArray[np.float32], float], ...] = ()
    classes: NDArray[np.float32] | None = None

    @classmethod
    def from_outputs(
        cls, outputs: Mapping[str, NDArray[np.float32]], count: int, config: "EngineConfig"
    ) -> "BatchPrediction":
        """From the outputs of the ensemble's network, by name; see `architecture.ensemble`.

        Args:
            outputs: arrays of at least `count` rows, which may be views of reused memory.
            count: images in the batch, without padding.
            config: what the network was built from.
        """
        kept = {name: np.array(values[:count], np.float32) for name, values in outputs.items()}
        detections = tuple(
            (kept[f"boxes_{index}"], kept[f"scores_{index}"], member.weight)
            for index, member in enumerate(config.members)
            if f"boxes_{index}" in kept
        )
        members = kept.get("members") if config.keep_members else None
        return cls(kept.get("mask"), kept["image"][:, 0], members, detections, kept.get("classes"))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Those of its arrays that the ensemble's boxes and scores are made of, by name."""
        found = {"masks": self.masks, "scores": self.scores, "classes": self.classes}
        for index, (boxes, scores, _) in enumerate(self.detections):
            found[f"boxes_{index}"], found[f"scores_{index}"] = boxes, scores
        return {name: values for name, values in found.items() if values is not None}

    def image(self, row: int) -> RawPrediction:
        """The prediction for one image of the batch."""
        return RawPrediction(
            image_score=float(self.scores[row]),
            mask=None if self.masks is None else self.masks[row],
            detections=tuple(
                Detections(boxes[row], scores[row], weight)
                for boxes, scores, weight in self.detections
            ),
            class_scores=None if self.classes is None else self.classes[row],
        )


# Reported for an image whose prediction is not finite.
NOT_FINITE = (
    "the networks' prediction for it is not finite (NaN or infinite); "
    "check their weights, or try --precision float32"
)


def finite_rows(predicted: BatchPrediction) -> NDArray[np.bool_]:
    """`(N,)`: which images of a batch have a prediction without NaN and infinity."""
    rows = [
        np.isfinite(array).reshape(len(array), -1).all(axis=1)
        for array in predicted.arrays().values()
    ]
    return np.all(rows, axis=0)


class Engine(Protocol):
    """Runs an ensemble; several threads may ask it.

    Attributes:
        name: `keras` or `openvino`.
        precision: the type it computes in.
        config: what it runs; its notes say what is faster and was not taken.
    """

    name: str
    precision: Precision
    config: EngineConfig

    def predict(self, images: NDArray[np.uint8]) -> BatchPrediction:
        """Run one batch: `(N, S, S)` uint8 prepared, N at most the job's batch size."""
        ...


class EngineError(LungboxError):
    """An engine cannot run here; the message says why and which can."""


class NotConvertibleError(EngineError):
    """An engine needs networks in a form that nothing here can make of them."""


def describe_precision(engine: Engine) -> str:
    """A sentence: what an engine computes in, and why in nothing faster."""
    precision, config = engine.precision, engine.config
    title = {"openvino": "OpenVINO", "keras": "Keras"}.get(engine.name, engine.name)
    parts = [f"Computed in {precision} by {title}"]
    if config.checked_elsewhere and precision != "float32":
        parts.append(f"{precision} was checked at another operating point")
    rank: dict[str, int] = {
        name: n for n, name in enumerate((*REDUCED_PRECISIONS, "float32"), start=1)
    }
    faster = [note for note in config.notes if rank.get(note[0], 0) < rank[precision]]
    faster.sort(key=lambda note: rank.get(note[0], 0))
    parts += [f"not {what}: {reason}" for what, reason in faster]
    return "; ".join(parts) + "."


def engine_fingerprint(engine: Engine) -> list[str]:
    """What, beside its job's members, decides an engine's answers to the last bit."""
    found = [engine.name, engine.precision, code_version()]
    if engine.precision == "int8" and engine.config.int8:
        found.append(engine.config.int8.sha256)
    return found


@cache
def code_version() -> str:
    """Changes when the code of networks and engines does: what they computed before is void."""
    package = Path(__file__).parent.parent
    sources = sorted(
        path for room in ("architecture", "engines") for path in (package / room).rglob("*.py")
    )
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def predict_with_tta(engine: Engine, images: NDArray[np.uint8]) -> BatchPrediction:
    """The prediction of an engine for a batch; with its config's `flip`, with test-time
    augmentation: masks and scores are averaged with those of the mirrored images, mirrored back,
    and their boxes are voters of their own."""
    plain = engine.predict(images)
    if not engine.config.flip:
        return plain
    mirrored = engine.predict(np.ascontiguousarray(images[:, :, ::-1]))
    masks = None if mirrored.masks is None else mirrored.masks[:, :, ::-1]
    members = None if mirrored.members is None else mirrored.members[..., ::-1, :]
    return BatchPrediction(
        masks=_mean(plain.masks, masks),
        scores=np.float32(0.5) * (plain.scores + mirrored.scores),
        members=_mean(plain.members, members),
        detections=plain.detections
        + tuple((_mirror_boxes(b), scores, weight) for b, scores, weight in mirrored.detections),
        classes=_mean(plain.classes, mirrored.classes),
    )


def _mean(
    one: NDArray[np.float32] | None, other: NDArray[np.float32] | None
) -> NDArray[np.float32] | None:
    return None if one is None or other is None else np.float32(0.5) * (one + other)


def _mirror_boxes(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """`(..., 4)` boxes in 0-1, left and right exchanged."""
    x1, y1, x2, y2 = np.moveaxis(boxes, -1, 0)
    return np.stack([1 - x2, y1, 1 - x1, y2], axis=-1)


def members(
    ensemble: Ensemble, weights: dict[str, Weights], paths: list[Path]
) -> tuple[Member, ...]:
    """The members of `ensemble`, in its order, with the files of their weights."""
    return tuple(
        Member(name, weights[name], path, weight)
        for name, path, weight in zip(
            ensemble.members, paths, ensemble.normalized_weights, strict=True
        )
    )


def pad_batch(images: NDArray[np.uint8], batch_size: int) -> NDArray[np.uint8]:
    """`images` and as many black ones as make a batch."""
    missing = batch_size - len(images)
    if missing == 0:
        return images
    return np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
