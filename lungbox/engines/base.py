"""The interface of inference engines: prepared radiographs in, masks, boxes and scores out."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Detections, RawPrediction
from lungbox.errors import LungboxError
from lungbox.radiograph.prepare import Preparation
from lungbox.weights.entries import REDUCED_PRECISIONS, Ensemble, ImageScore, Precision, Weights
from lungbox.weights.fingerprints import Fingerprint, fingerprint, fingerprints, key_of
from lungbox.weights.store import sha256

PrecisionName = Literal["auto", "float32", "bfloat16", "int8"]
PRECISIONS: tuple[PrecisionName, ...] = ("auto", "float32", "bfloat16", "int8")


@dataclass(frozen=True)
class Member:
    """One network of an ensemble, its verified weight file and its weight in the mean."""

    name: str
    weights: Weights
    path: Path
    weight: float

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the weight file: the manifest's, or computed where the manifest has none."""
        return self.weights.sha256 or sha256(self.path)

    @property
    def fingerprint(self) -> Fingerprint:
        """Everything about the member that affects predictions, for the keys of caches."""
        return fingerprint(self.sha256, self.weights, self.weight)


@dataclass(frozen=True)
class Int8:
    """The verified file of an ensemble's INT8 model, see `openvino.save_int8`."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class EngineConfig:
    """The ensemble an engine runs, and how.

    Attributes:
        ensemble: its name, for messages.
        members: its networks.
        batch_size: images per batch; a smaller batch is padded, so the input shape is static.
        preparation: preprocessing of radiographs.
        keep_members: whether each member's own mask is also an output.
        flip: horizontal-flip test-time augmentation, see `views.predict_with_tta`.
        views: further views of test-time augmentation, see `weights.views.View`.
        gates: names of the members whose image scores are averaged; all where empty.
        image_score: what the image score is made of, see `weights.entries.Ensemble`.
        precisions: allowed inference precisions; an engine uses the fastest that the processor
            supports, and raises where only one is allowed and it is not supported.
        int8: the ensemble's INT8 model; None where it is not to be used.
        notes: faster precisions or engines that are not used, each with the reason.
        checked_elsewhere: whether other precisions were checked at another operating point.
    """

    ensemble: str
    members: tuple[Member, ...]
    batch_size: int
    preparation: Preparation = "equalised"
    keep_members: bool = False
    flip: bool = False
    views: tuple[str, ...] = ()
    gates: tuple[str, ...] = ()
    image_score: ImageScore = "head"
    precisions: tuple[Precision, ...] = ("float32",)
    int8: Int8 | None = None
    notes: tuple[tuple[str, str], ...] = ()
    checked_elsewhere: bool = False

    @property
    def only(self) -> Precision | None:
        """The precision, where exactly one is allowed; None otherwise."""
        return self.precisions[0] if len(self.precisions) == 1 else None

    def without(self, precision: Precision, reason: str) -> "EngineConfig":
        """A copy that does not allow `precision`, with the reason in its notes."""
        allowed = tuple(name for name in self.precisions if name != precision)
        int8 = None if precision == "int8" else self.int8
        return replace(self, precisions=allowed, int8=int8).noting(precision, reason)

    def noting(self, what: str, reason: str) -> "EngineConfig":
        """A copy with one more note: why a faster precision or engine is not used."""
        return replace(self, notes=(*self.notes, (what, reason)))

    @property
    def key(self) -> str:
        """Key of the manifest's `precisions` entry, which holds the checks of other precisions."""
        return key_of(self.fingerprints, self.preparation, self.flip, self.views)

    @property
    def fingerprints(self) -> list[Fingerprint]:
        """Everything but code and engine that affects the outputs, for the keys of caches."""
        found = [member.fingerprint for member in self.members]
        return fingerprints(found, self.gate_rows, self.image_score)

    @property
    def gate_rows(self) -> tuple[int, ...]:
        """Indices of `gates` among the members."""
        names = [member.name for member in self.members]
        return tuple(names.index(name) for name in self.gates)

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels: the largest of the members'."""
        return max(member.weights.image_size for member in self.members)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names of the boxes, by index; empty where no network predicts boxes."""
        for member in self.members:
            if member.weights.kind != "classification":
                return member.weights.class_names
        return ()

    @property
    def mask_weight(self) -> float:
        """The weight of the averaged mask beside detection networks: that of all its members."""
        return sum(m.weight for m in self.members if m.weights.kind == "segmentation")

    @property
    def mask_names(self) -> list[str]:
        """Names of the segmentation members, whose masks `keep_members` adds."""
        return [m.name for m in self.members if m.weights.kind == "segmentation"]

    @property
    def image_labels(self) -> tuple[str, ...]:
        """Labels of the image-level probabilities; empty without a classification network."""
        for member in self.members:
            if member.weights.kind == "classification":
                return member.weights.class_names
        return ()


class BatchPrediction(NamedTuple):
    """The prediction of an ensemble for a batch of N images.

    Attributes:
        masks: `(N, h, w, 1 + C)` float32 probabilities of background and C classes; None without
            a segmentation network.
        scores: `(N,)` float32 image scores, 0-1.
        members: `(N, M, h, w, 1 + C)` float32, the masks of the M segmentation networks; None
            unless the config has `keep_members`.
        detections: for each detection network (and each view of test-time augmentation) boxes
            `(N, K, 4)` `x1, y1, x2, y2` in 0-1, scores `(N, K, C)` and its weight.
        classes: `(N, L)` float32 image-level probabilities of L labels; None without a
            classification network.
        mask_weight: the weight of the masks' boxes beside the detections.
    """

    masks: NDArray[np.float32] | None
    scores: NDArray[np.float32]
    members: NDArray[np.float32] | None = None
    detections: tuple[tuple[NDArray[np.float32], NDArray[np.float32], float], ...] = ()
    classes: NDArray[np.float32] | None = None
    mask_weight: float = 1.0

    @classmethod
    def from_outputs(
        cls, outputs: Mapping[str, NDArray[np.float32]], count: int, config: "EngineConfig"
    ) -> "BatchPrediction":
        """Build it from a network's outputs by name; see `architecture.ensemble`.

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
        return cls(
            masks=kept.get("mask"),
            scores=kept["image"][:, 0],
            members=members,
            detections=detections,
            classes=kept.get("classes"),
            mask_weight=config.mask_weight,
        )

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The arrays that boxes and scores are made of, by name."""
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
            mask_weight=self.mask_weight,
        )


# The error of an image whose prediction is not finite.
NOT_FINITE = (
    "the networks' prediction for it is not finite (NaN or infinite); "
    "check their weights, or try --precision float32"
)


def finite_rows(predicted: BatchPrediction) -> NDArray[np.bool_]:
    """`(N,)` booleans: which images of a batch have a prediction without NaN and infinity."""
    rows = [
        np.isfinite(array).reshape(len(array), -1).all(axis=1)
        for array in predicted.arrays().values()
    ]
    return np.all(rows, axis=0)


class Engine(Protocol):
    """An inference engine that runs one ensemble; safe to call from several threads.

    Attributes:
        name: `keras` or `openvino`.
        precision: the inference precision.
        config: the ensemble; its notes say which faster precisions or engines are not used.
    """

    name: str
    precision: Precision
    config: EngineConfig

    def predict(self, images: NDArray[np.uint8]) -> BatchPrediction:
        """Predict one batch of prepared images, `(N, S, S)` uint8, N at most the batch size."""
        ...


class EngineError(LungboxError):
    """An engine cannot run here; the message says why, and what to use instead."""


class NotConvertibleError(EngineError):
    """A network cannot be converted to an engine's format in this installation."""


def describe_precision(engine: Engine) -> str:
    """One sentence: an engine's inference precision, and why nothing faster is used."""
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
    """What besides the ensemble affects an engine's predictions bit for bit, for cache keys."""
    found = [engine.name, engine.precision, code_version()]
    if engine.precision == "int8" and engine.config.int8:
        found.append(engine.config.int8.sha256)
    elif version := getattr(engine, "network_version", ""):
        found.append(version)
    return found


@cache
def code_version() -> str:
    """Hash of the code of networks and engines: when it changes, cached results are void."""
    package = Path(__file__).parent.parent
    folders = [package / name for name in ("architecture", "engines")]
    sources = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def members(
    ensemble: Ensemble, weights: dict[str, Weights], paths: list[Path]
) -> tuple[Member, ...]:
    """The members of an ensemble, in its order.

    Args:
        ensemble: of the manifest.
        weights: the manifest's weights by name.
        paths: the verified weight files, in the order of the members.
    """
    return tuple(
        Member(name, weights[name], path, weight)
        for name, path, weight in zip(
            ensemble.members, paths, ensemble.normalized_weights, strict=True
        )
    )


def pad_batch(images: NDArray[np.uint8], batch_size: int) -> NDArray[np.uint8]:
    """Pad a batch `(N, S, S)` with black images to `(batch_size, S, S)`.

    >>> pad_batch(np.ones((2, 3, 3), np.uint8), 4).sum(axis=(1, 2)).tolist()
    [9, 9, 0, 0]
    """
    missing = batch_size - len(images)
    if missing == 0:
        return images
    return np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
