"""Predicting files: read ahead, batched, with a reason for each file that fails."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import OperatingPoint, RawPrediction, decide, label_names, withheld_by_gate
from lungbox.common.equality import ValueEquality
from lungbox.common.parallel import Finished, Stages, run_prefetched
from lungbox.engines import (
    NOT_FINITE,
    PRECISIONS,
    BatchPrediction,
    Engine,
    EngineConfig,
    EngineError,
    EngineName,
    Int8,
    PrecisionName,
    describe_precision,
    finite_rows,
    members,
    predict_with_tta,
    start,
    without_padding,
)
from lungbox.errors import suggest
from lungbox.findings import Findings, WithheldBox
from lungbox.inference.files import ImageFile
from lungbox.radiograph import (
    Radiograph,
    RadiographError,
    frontal_flag,
    identity,
    prepare,
    read,
)
from lungbox.submission import vinbigdata
from lungbox.weights.entries import DEFAULT, REDUCED_PRECISIONS, Calibration, Manifest, Precisions
from lungbox.weights.formats.safetensors import WeightsError
from lungbox.weights.manifest import load_manifest
from lungbox.weights.store import Watch, fetch, fetch_all, new_terms_of_use

_log = logging.getLogger("lungbox")
# Files in progress at once, so that one that takes seconds delays nothing: 64 kB each once they are
# prepared, a hundred times that with their pixels.
_AHEAD, _AHEAD_WITH_PIXELS = 512, 24


@dataclass(frozen=True, eq=False)
class ImageResult(ValueEquality):
    """The result of one file: findings with their mask, or the reason why there are none.

    Attributes:
        source: the file.
        findings: None where it could not be read, or its prediction is not finite.
        mask: `(h, w, 1 + C)` float32, the averaged mask; None where there are no findings, or no
            segmentation network.
        members: `(M, h, w, 1 + C)` float32, the members' own masks, where requested.
        radiograph: its pixels, where requested.
        reason: why there are no findings; empty otherwise.
        no_picture: why a requested picture of it could not be written; empty otherwise.
    """

    source: ImageFile
    findings: Findings | None = None
    mask: NDArray[np.float32] | None = None
    members: NDArray[np.float32] | None = None
    radiograph: Radiograph | None = None
    reason: str = ""
    no_picture: str = ""


class Detector:
    """An ensemble, ready to predict.

    Example:
        >>> import lungbox
        >>> detector = lungbox.load("default")
        >>> findings = detector.predict("radiograph.dcm")  # doctest: +SKIP

    Attributes:
        name: of the ensemble.
        engine: the inference engine.
        point: the settings that turn its predictions into boxes.
        calibration: of its image scores; None where they are written as they are.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        point: OperatingPoint,
        calibration: Calibration | None = None,
    ) -> None:
        self.name, self.engine, self.point, self.calibration = name, engine, point, calibration

    @property
    def precision_note(self) -> str:
        """One sentence: the precision and engine it computes in, and why in nothing faster."""
        return describe_precision(self.engine)

    def predict(self, path: str | Path, keep_mask: bool = False) -> Findings:
        """The findings of one file.

        Args:
            path: a DICOM, PNG or JPEG file.
            keep_mask: whether the findings hold the mask.

        Raises:
            RadiographError: it cannot be read as a radiograph.
            EngineError: the prediction is not finite.
        """
        file = Path(path)
        try:
            item = _read(ImageFile(file, identity(file), str(file)), self.engine.config, keep=False)
        except RadiographError as error:
            raise RadiographError(f"{file}: {error}") from error
        predicted = predict_with_tta(self.engine, item.prepared[None])
        if not finite_rows(predicted)[0]:
            raise EngineError(f"{file}: {NOT_FINITE}")
        predicted = without_padding(predicted, [item.size], self.engine.config)
        return self._findings(item, predicted.image(0), keep_mask)

    def predict_all(
        self, sources: Iterable[ImageFile], keep_radiographs: bool = False
    ) -> Iterator[ImageResult]:
        """The result of each file, in order; a file that cannot be read does not stop the others.

        Files are read and prepared ahead in threads and predicted in batches, at most some hundred
        at once, so memory does not grow with their number; see `common.parallel`.

        Args:
            sources: the files.
            keep_radiographs: whether results hold their pixels, for pictures.
        """
        stages: Stages[ImageFile, _Read, BatchPrediction, ImageResult] = Stages(
            read=lambda source: _try_to_read(source, self.engine.config, keep_radiographs),
            run=lambda batch: predict_with_tta(
                self.engine, np.stack([item.prepared for item in batch])
            ),
            finish=self._results,
        )
        batch_size = self.engine.config.batch_size
        ahead = _AHEAD_WITH_PIXELS if keep_radiographs else _AHEAD
        yield from run_prefetched(sources, stages, batch_size, max(ahead, 2 * batch_size))

    def _results(self, batch: "list[_Read]", predicted: BatchPrediction) -> list[ImageResult]:
        finite = finite_rows(predicted)
        predicted = without_padding(predicted, [item.size for item in batch], self.engine.config)
        return [
            self._result(item, predicted, row)
            if finite[row]
            else ImageResult(item.source, reason=NOT_FINITE)
            for row, item in enumerate(batch)
        ]

    def _result(self, item: "_Read", predicted: BatchPrediction, row: int) -> ImageResult:
        prediction = predicted.image(row)
        return ImageResult(
            source=item.source,
            findings=self._findings(item, prediction),
            mask=prediction.mask,
            members=None if predicted.members is None else predicted.members[row],
            radiograph=item.radiograph,
        )

    def _findings(
        self, item: "_Read", prediction: RawPrediction, keep_mask: bool = False
    ) -> Findings:
        boxes, scores, labels = decide(prediction, item.size, self.point)
        withheld = self._withheld(prediction, item.size)
        config = self.engine.config
        class_scores = () if prediction.class_scores is None else prediction.class_scores.tolist()
        return Findings(
            identity=item.source.identity,
            size=item.size,
            image_score=self.written(prediction.image_score),
            boxes=boxes,
            scores=scores,
            labels=label_names(labels, config.class_names),
            path=item.source.relative,
            flag=item.flag,
            class_names=config.class_names,
            class_scores=tuple(zip(config.image_labels, class_scores, strict=True)),
            mask=prediction.mask if keep_mask else None,
            withheld=withheld,
            gate=self.written(self.point.gate) if withheld else 0.0,
            no_finding=self._no_finding(prediction.image_score),
        )

    def _no_finding(self, score: float) -> float:
        """The confidence of "no finding" beside the boxes, between the two gates."""
        has_one = vinbigdata.fits(self.engine.config.class_names)
        return 1 - self.written(score) if has_one and self.point.is_between_gates(score) else 0.0

    def _withheld(
        self, prediction: RawPrediction, size: tuple[int, int]
    ) -> tuple[WithheldBox, ...]:
        boxes, scores, labels = withheld_by_gate(prediction, size, self.point)
        names = label_names(labels, self.engine.config.class_names)
        return tuple(
            WithheldBox(name, float(score), (x1, y1, x2, y2))
            for name, score, (x1, y1, x2, y2) in zip(names, scores, boxes.tolist(), strict=True)
        )

    def written(self, score: float) -> float:
        """An image score, or a gate, on the scale in which image scores are written."""
        return self.calibration(score) if self.calibration else score


def load(
    ensemble: str = DEFAULT,
    engine: EngineName = "auto",
    batch_size: int = 1,
    precision: PrecisionName = "auto",
    operating_point: str = "",
    gate: float | None = None,
    prevalence: float | None = None,
) -> Detector:
    """Load an ensemble, ready to predict.

    Args:
        ensemble: a name in the manifest.
        engine: `openvino`, the fastest on a CPU; `keras`, which runs on a GPU where there is one;
            `auto` is `openvino` where it can run.
        batch_size: images predicted at once; more than one only helps `predict_all`.
        precision: the type it computes in; `auto` is the fastest that has passed its check.
        operating_point: a name in the ensemble's entry; its default one where empty.
        gate: least image score for boxes, on the scale of the scores in the findings; the operating
            point's own where None.
        prevalence: share of images with an opacity that image scores are converted to; the
            calibration's own where None.

    Raises:
        ManifestError: no ensemble, or no operating point, has that name; or a value is not in its
            range.
        WeightsError: its weights are unavailable, or do not fit.
        EngineError: the engine cannot run here.
    """
    opened = open_ensemble(
        ensemble,
        batch_size,
        precision=precision,
        operating_point=operating_point,
        gate=gate,
        prevalence=prevalence,
    )
    for line in terms(opened.config):
        _log.warning(line)
    return opened.start(engine)


def terms(config: EngineConfig) -> list[str]:
    """The terms of use of its weights that this user has not been shown yet."""
    return new_terms_of_use({member.name: member.weights for member in config.members})


class OpenedEnsemble(NamedTuple):
    """An ensemble of the manifest, its weights fetched.

    Attributes:
        config: what an engine runs.
        point: the settings that turn its predictions into boxes.
        calibration: of its image scores.
    """

    config: EngineConfig
    point: OperatingPoint
    calibration: Calibration | None

    def start(self, engine: EngineName) -> Detector:
        """Start an engine on it.

        Raises:
            EngineError: the engine cannot run here.
        """
        name = self.config.ensemble
        return Detector(name, start(engine, self.config), self.point, self.calibration)


def open_ensemble(
    name: str,
    batch_size: int,
    watch: Watch = lambda _: lambda *_: None,
    keep_members: bool = False,
    precision: PrecisionName = "auto",
    operating_point: str = "",
    gate: float | None = None,
    prevalence: float | None = None,
) -> OpenedEnsemble:
    """Look an ensemble up in the manifest and fetch its weights.

    Args:
        name: in the manifest.
        batch_size: images predicted at once.
        watch: see `weights.store.fetch`.
        keep_members: whether each member's masks are requested, too.
        precision: the type it is to compute in; `auto` leaves it to the engine, among those that
            have passed their check.
        operating_point: a name in the ensemble's entry; its default one where empty.
        gate: least image score for boxes, on the scale of the scores in the findings; the operating
            point's own where None.
        prevalence: share of images with an opacity that image scores are converted to; the
            calibration's own where None.

    Raises:
        ManifestError: no ensemble, or no operating point, has that name; or a value is not in its
            range.
        WeightsError: its weights are unavailable, or not in that precision.
        EngineError: there is no such precision.
    """
    manifest = load_manifest()
    ensemble = manifest.ensemble(name)
    point, calibration = ensemble.settings(operating_point, gate, prevalence)
    paths = fetch_all(ensemble.members, manifest, watch)
    config = EngineConfig(
        ensemble=name,
        members=members(ensemble, manifest.weights, paths),
        batch_size=batch_size,
        preparation=ensemble.preparation,
        keep_members=keep_members,
        flip=ensemble.flip,
        views=ensemble.views,
        gates=ensemble.gates,
        image_score=ensemble.image_score,
    )
    config = _in_precision(config, point, manifest, precision, watch)
    return OpenedEnsemble(config, point, calibration)


def _in_precision(
    config: EngineConfig,
    point: OperatingPoint,
    manifest: Manifest,
    requested: PrecisionName,
    watch: Watch,
) -> EngineConfig:
    """The config with the precisions it may compute in."""
    if requested not in PRECISIONS:
        raise EngineError(f"there is no precision {requested}; {suggest(requested, PRECISIONS)}")
    known = manifest.precisions.get(config.key)
    config = (
        replace(config, precisions=(requested,))
        if requested != "auto"
        else _permitted(config, known, point)
    )
    if "int8" not in config.precisions:
        return config
    if known is None or known.int8 is None:
        raise WeightsError(
            f"{config.ensemble} as it is now has no INT8 model; make it: python -m "
            f"lungbox quantize {config.ensemble} --data DIR"
        )
    try:
        path = fetch(known.int8_name, known.int8, watch)
    except WeightsError as error:
        if config.only:
            raise
        return config.without("int8", " ".join(map(str.strip, str(error).splitlines()[:2])))
    return replace(config, int8=Int8(path, known.int8.sha256))


def _permitted(
    config: EngineConfig, known: Precisions | None, point: OperatingPoint
) -> EngineConfig:
    """The config with the precisions that have passed their check, and notes on the others."""
    if known is None:
        reason = f"not checked for these weights: python -m lungbox quantize {config.ensemble}"
        return replace(config, precisions=("float32",)).noting("int8 or bfloat16", reason)
    config = replace(config, precisions=known.passed())
    for name in REDUCED_PRECISIONS:
        found = known.of(name)
        if found is None:
            config = config.noting(name, "not checked")
        elif not found.passed:
            figures = f"{found.metric_change:+.4f}, {found.same_count:.1%} with as many boxes"
            config = config.noting(
                name, f"its check failed (metric {figures}, {found.images} images)"
            )
    return replace(config, checked_elsewhere=known.checked_at not in (None, point))


@dataclass(frozen=True)
class _Read:
    """A file that has been read and prepared."""

    source: ImageFile
    prepared: NDArray[np.uint8]
    size: tuple[int, int]
    flag: str
    radiograph: Radiograph | None


def _read(source: ImageFile, config: EngineConfig, keep: bool) -> _Read:
    radiograph = read(source.path)
    prepared = prepare(radiograph.pixels, config.image_size, config.preparation)
    checked = prepared
    if config.preparation == "padded":  # the frontal check knows squashed radiographs
        checked = prepare(radiograph.pixels, config.image_size)
    return _Read(
        source=source,
        prepared=prepared,
        size=radiograph.size,
        # What a header says, such as a lateral view, is more exact.
        flag=radiograph.flag or frontal_flag(checked),
        radiograph=radiograph if keep else None,
    )


def _try_to_read(
    source: ImageFile, config: EngineConfig, keep: bool
) -> _Read | Finished[ImageResult]:
    try:
        return _read(source, config, keep)
    except RadiographError as error:
        reason = str(error)
    except MemoryError:
        reason = "there is not enough memory to decode it"
    except Exception as error:  # one file must never stop the others
        reason = f"it cannot be read ({type(error).__name__}: {error})"
    return Finished(ImageResult(source, reason=reason))
