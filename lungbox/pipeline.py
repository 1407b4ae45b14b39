"""From files to findings: reading ahead, batching, bad files set aside."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import OperatingPoint, regions
from lungbox.engines import (
    NOT_FINITE,
    PRECISIONS,
    Engine,
    EngineError,
    EngineName,
    Int8,
    Job,
    PrecisionName,
    Prediction,
    ask,
    chosen,
    finite,
    members,
    start,
)
from lungbox.errors import hint
from lungbox.findings import Findings, opacities
from lungbox.flow import Finished, Stages, through
from lungbox.folder import Source
from lungbox.radiograph import Radiograph, RadiographError, identity, prepare, read
from lungbox.values import ByValue
from lungbox.weights.entries import FASTER, Precisions
from lungbox.weights.fetch import Watch, fetch, fetch_all
from lungbox.weights.files import WeightsError
from lungbox.weights.manifest import DEFAULT, Manifest, load_manifest
from lungbox.weights.terms import unsaid

_log = logging.getLogger("lungbox")
# Files that are on their way at once, so that one of seconds keeps nothing waiting: prepared they
# take 64 kB each, with their pixels a hundred times that.
_AHEAD, _AHEAD_WITH_PIXELS = 512, 24


@dataclass(frozen=True, eq=False)
class Outcome(ByValue):
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

    source: Source
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
    def chosen(self) -> str:
        """A sentence: what it computes in, and why in nothing faster."""
        return chosen(self.engine)

    def predict(self, path: str | Path) -> Findings:
        """The findings of one file.

        Raises:
            RadiographError: it cannot be read as a radiograph.
            EngineError: what the networks answer is not finite.
        """
        file = Path(path)
        try:
            item = _read(Source(file, identity(file), str(file)), self.engine.job, keep=False)
        except RadiographError as error:
            raise RadiographError(f"{file}: {error}") from error
        predicted = ask(self.engine, item.prepared[None])
        if not finite(predicted)[0]:
            raise EngineError(f"{file}: {NOT_FINITE}")
        return self._findings(item, predicted.masks[0], float(predicted.scores[0]))

    def predict_all(
        self, sources: Iterable[Source], keep_radiographs: bool = False
    ) -> Iterator[Outcome]:
        """What becomes of each file, in order; a file that cannot be read stops nothing.

        Files are read and prepared ahead in threads, and run as they come, never more than some
        hundred of them at once, so memory does not grow with their number; see `flow`.

        Args:
            sources: the files.
            keep_radiographs: hand on their pixels, for pictures.
        """
        stages: Stages[Source, _Read, Prediction, Outcome] = Stages(
            read=lambda source: _try_to_read(source, self.engine.job, keep_radiographs),
            run=lambda batch: ask(self.engine, np.stack([item.prepared for item in batch])),
            finish=self._outcomes,
        )
        batch_size = self.engine.job.batch_size
        ahead = _AHEAD_WITH_PIXELS if keep_radiographs else _AHEAD
        yield from through(sources, stages, batch_size, max(ahead, 2 * batch_size))

    def _outcomes(self, batch: "list[_Read]", predicted: Prediction) -> list[Outcome]:
        good = finite(predicted)
        return [
            self._outcome(item, predicted, row)
            if good[row]
            else Outcome(item.source, reason=NOT_FINITE)
            for row, item in enumerate(batch)
        ]

    def _outcome(self, item: "_Read", predicted: Prediction, row: int) -> Outcome:
        masks, scores, members = predicted
        return Outcome(
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
    job, point = open_ensemble(ensemble, batch_size, precision=precision)
    for line in terms(job):
        _log.warning(line)
    return Detector(ensemble, start(engine, job), point)


def terms(job: Job) -> list[str]:
    """The terms its weights may be used under, as far as nobody on this machine was told yet."""
    return unsaid({member.name: member.weights for member in job.members})


def open_ensemble(
    name: str,
    batch_size: int,
    watch: Watch = lambda _: lambda *_: None,
    keep_members: bool = False,
    precision: PrecisionName = "auto",
) -> tuple[Job, OperatingPoint]:
    """What an engine needs to run an ensemble, its weights fetched, and its operating point.

    Args:
        name: in the manifest.
        batch_size: images run at once.
        watch: see `weights.fetch`.
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
    job = Job(name, found, batch_size, ensemble.preparation, keep_members, ensemble.flip)
    return _in_precision(job, ensemble.point, manifest, precision, watch), ensemble.point


def _in_precision(
    job: Job, point: OperatingPoint, manifest: Manifest, asked: PrecisionName, watch: Watch
) -> Job:
    """The job with the types it may compute in."""
    if asked not in PRECISIONS:
        raise EngineError(f"there is no precision {asked}; {hint(asked, PRECISIONS)}")
    known = manifest.precisions.get(job.key)
    job = replace(job, precisions=(asked,)) if asked != "auto" else _permitted(job, known, point)
    if "int8" not in job.precisions:
        return job
    if known is None or known.int8 is None:
        raise WeightsError(
            f"{job.ensemble} as it is now is not there in 8-bit integers; make it: python -m "
            f"lungbox quantise {job.ensemble} --data DIR"
        )
    try:
        path = fetch(known.int8_name, known.int8, watch)
    except WeightsError as error:
        if job.only:
            raise
        return job.without("int8", " ".join(map(str.strip, str(error).splitlines()[:2])))
    return replace(job, int8=Int8(path, known.int8.sha256))


def _permitted(job: Job, known: Precisions | None, point: OperatingPoint) -> Job:
    """The job with the types that have passed their check, and why the others have not."""
    if known is None:
        reason = f"not checked for these weights: python -m lungbox quantise {job.ensemble}"
        return replace(job, precisions=("float32",)).noting("int8 or bfloat16", reason)
    job = replace(job, precisions=known.passed())
    for name in FASTER:
        found = known.of(name)
        if found is None:
            job = job.noting(name, "nobody has checked it")
        elif not found.passed:
            figures = f"{found.metric_change:+.4f}, {found.same_count:.1%} with as many boxes"
            job = job.noting(name, f"its check failed (metric {figures}, {found.images} images)")
    return replace(job, checked_elsewhere=known.checked_at not in (None, point))


@dataclass(frozen=True)
class _Read:
    """A file that has been read and prepared."""

    source: Source
    prepared: NDArray[np.uint8]
    size: tuple[int, int]
    flag: str
    radiograph: Radiograph | None


def _read(source: Source, job: Job, keep: bool) -> _Read:
    radiograph = read(source.path)
    return _Read(
        source=source,
        prepared=prepare(radiograph.pixels, job.image_size, job.preparation),
        size=radiograph.size,
        flag=radiograph.flag,
        radiograph=radiograph if keep else None,
    )


def _try_to_read(source: Source, job: Job, keep: bool) -> _Read | Finished[Outcome]:
    try:
        return _read(source, job, keep)
    except RadiographError as error:
        reason = str(error)
    except MemoryError:
        reason = "there is not enough memory to decode it"
    except Exception as error:  # one file must never stop the others
        reason = f"it cannot be read ({type(error).__name__}: {error})"
    return Finished(Outcome(source, reason=reason))
