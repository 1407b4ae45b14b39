"""From files to findings: reading ahead, batching, bad files set aside."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import OperatingPoint, regions
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
)
from lungbox.errors import suggest
from lungbox.findings import Findings, opacities
from lungbox.inference.files import ImageFile
from lungbox.radiograph import Radiograph, RadiographError, identity, prepare, read
from lungbox.weights.formats.safetensors import WeightsError
from lungbox.weights.manifest import (
    DEFAULT,
    REDUCED_PRECISIONS,
    Manifest,
    Precisions,
    load_manifest,
)
from lungbox.weights.store import Watch, fetch, fetch_all, new_terms_of_use

_log = logging.getLogger("lungbox")
# Files that are on their way at once, so that one of seconds keeps nothing waiting: prepared they
# take 64 kB each, with their pixels a hundred times that.
_AHEAD, _AHEAD_WITH_PIXELS = 512, 24


@dataclass(frozen=True, eq=False)
class ImageResult(ValueEquality):
    """What became of one file: findings with their mask, or the reason there are none.

    Attributes:
        source: the file.
        findings: None where it could not be read, or the networks' answer is not finite.
        mask: `(h, w, 2)` float32, the averaged mask; None where there are no findings.
        members: `(M, h, w, 2)` float32, the members' own masks, where they were asked for.
        radiograph: its pixels, where they were asked for.
        reason: why there are no findings; empty otherwise.
        no_picture: why a picture of it that was asked for is not there; empty otherwise.
    """

    source: ImageFile
    findings: Findings | None = None
    mask: NDArray[np.float32] | None = None
    members: NDArray[np.float32] | None = None
    radiograph: Radiograph | None = None
    reason: str = ""
    no_picture: str = ""


class Detector:
    """An ensemble that is ready to read radiographs.

    Example:
        >>> import lungbox
        >>> detector = lungbox.load("default")
        >>> findings = detector.predict("radiograph.dcm")  # doctest: +SKIP

    Attributes:
        name: of the ensemble.
        engine: what runs it.
        point: how its masks become boxes.
    """

    def __init__(self, name: str, engine: Engine, point: OperatingPoint) -> None:
        self.name, self.engine, self.point = name, engine, point

    @property
    def describe_precision(self) -> str:
        """A sentence: what it computes in, and why in nothing faster."""
        return describe_precision(self.engine)

    def predict(self, path: str | Path) -> Findings:
        """The findings of one file.

        Raises:
            RadiographError: it cannot be read as a radiograph.
            EngineError: what the networks answer is not finite.
        """
        file = Path(path)
        try:
            item = _read(ImageFile(file, identity(file), str(file)), self.engine.config, keep=False)
        except RadiographError as error:
            raise RadiographError(f"{file}: {error}") from error
        predicted = predict_with_tta(self.engine, item.prepared[None])
        if not finite_rows(predicted)[0]:
            raise EngineError(f"{file}: {NOT_FINITE}")
        return self._findings(item, predicted.masks[0], float(predicted.scores[0]))

    def predict_all(
        self, sources: Iterable[ImageFile], keep_radiographs: bool = False
    ) -> Iterator[ImageResult]:
        """What becomes of each file, in order; a file that cannot be read stops nothing.

        Files are read and prepared ahead in threads, and run as they come, never more than some
        hundred of them at once, so memory does not grow with their number; see `flow`.

        Args:
            sources: the files.
            keep_radiographs: hand on their pixels, for pictures.
        """
        stages: Stages[ImageFile, _Read, BatchPrediction, ImageResult] = Stages(
            read=lambda source: _try_to_read(source, self.engine.config, keep_radiographs),
            run=lambda batch: predict_with_tta(
                self.engine, np.stack([item.prepared for item in batch])
            ),
            finish=self._outcomes,
        )
        batch_size = self.engine.config.batch_size
        ahead = _AHEAD_WITH_PIXELS if keep_radiographs else _AHEAD
        yield from run_prefetched(sources, stages, batch_size, max(ahead, 2 * batch_size))

    def _outcomes(self, batch: "list[_Read]", predicted: BatchPrediction) -> list[ImageResult]:
        good = finite_rows(predicted)
        return [
            self._outcome(item, predicted, row)
            if good[row]
            else ImageResult(item.source, reason=NOT_FINITE)
            for row, item in enumerate(batch)
        ]

    def _outcome(self, item: "_Read", predicted: BatchPrediction, row: int) -> ImageResult:
        masks, scores, members = predicted
        return ImageResult(
            source=item.source,
            findings=self._findings(item, masks[row], float(scores[row])),
            mask=masks[row],
            members=None if members is None else members[row],
            radiograph=item.radiograph,
        )

    def _findings(self, item: "_Read", mask: NDArray, image_score: float) -> Findings:
        boxes, scores = regions(mask, item.size, image_score, self.point)
        return Findings(
            identity=item.source.identity,
            size=item.size,
            image_score=image_score,
            boxes=boxes,
            scores=scores,
            labels=opacities(len(boxes)),
            path=item.source.relative,
            flag=item.flag,
        )


def load(
    ensemble: str = DEFAULT,
    engine: EngineName = "auto",
    batch_size: int = 1,
    precision: PrecisionName = "auto",
) -> Detector:
    """Make an ensemble ready to read radiographs.

    Args:
        ensemble: a name in the manifest.
        engine: `openvino`, the fastest on a CPU; `keras`, which runs on a GPU where there is one;
            `auto` is `openvino` where it can run.
        batch_size: images run at once; more than one only helps `predict_all`.
        precision: the type it computes in; `auto` is the fastest that has passed its check.

    Raises:
        ManifestError: no ensemble has that name.
        WeightsError: its weights cannot be had, or do not fit.
        EngineError: the engine cannot run here.
    """
    config, point = open_ensemble(ensemble, batch_size, precision=precision)
    for line in terms(config):
        _log.warning(line)
    return Detector(ensemble, start(engine, config), point)


def terms(config: EngineConfig) -> list[str]:
    """The terms its weights may be used under, as far as nobody on this machine was told yet."""
    return new_terms_of_use({member.name: member.weights for member in config.members})


def open_ensemble(
    name: str,
    batch_size: int,
    watch: Watch = lambda _: lambda *_: None,
    keep_members: bool = False,
    precision: PrecisionName = "auto",
) -> tuple[EngineConfig, OperatingPoint]:
    """What an engine needs to run an ensemble, its weights fetched, and its operating point.

    Args:
        name: in the manifest.
        batch_size: images run at once.
        watch: see `weights.store.fetch`.
        keep_members: whether each member's masks are wanted, too.
        precision: the type it is to compute in; `auto` leaves that to the engine, among those
            that the manifest says leave the boxes as they are.

    Raises:
        ManifestError: no ensemble has that name.
        WeightsError: its weights cannot be had, or not in that precision.
        EngineError: there is no such precision.
    """
    manifest = load_manifest()
    ensemble = manifest.ensemble(name)
    paths = fetch_all(ensemble.members, manifest, watch)
    found = members(ensemble, manifest.weights, paths)
    config = EngineConfig(
        name, found, batch_size, ensemble.preparation, keep_members, ensemble.flip
    )
    return _in_precision(config, ensemble.point, manifest, precision, watch), ensemble.point


def _in_precision(
    config: EngineConfig,
    point: OperatingPoint,
    manifest: Manifest,
    asked: PrecisionName,
    watch: Watch,
) -> EngineConfig:
    """The job with the types it may compute in."""
    if asked not in PRECISIONS:
        raise EngineError(f"there is no precision {asked}; {suggest(asked, PRECISIONS)}")
    known = manifest.precisions.get(config.key)
    config = (
        replace(config, precisions=(asked,))
        if asked != "auto"
        else _permitted(config, known, point)
    )
    if "int8" not in config.precisions:
        return config
    if known is None or known.int8 is None:
        raise WeightsError(
            f"{config.ensemble} as it is now is not there in 8-bit integers; make it: python -m "
            f"lungbox quantise {config.ensemble} --data DIR"
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
    """The job with the types that have passed their check, and why the others have not."""
    if known is None:
        reason = f"not checked for these weights: python -m lungbox quantise {config.ensemble}"
        return replace(config, precisions=("float32",)).noting("int8 or bfloat16", reason)
    config = replace(config, precisions=known.passed())
    for name in REDUCED_PRECISIONS:
        found = known.of(name)
        if found is None:
            config = config.noting(name, "nobody has checked it")
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
    return _Read(
        source=source,
        prepared=prepare(radiograph.pixels, config.image_size, config.preparation),
        size=radiograph.size,
        flag=radiograph.flag,
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
