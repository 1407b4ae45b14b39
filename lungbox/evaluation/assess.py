"""Everything `lungbox evaluate` and `lungbox report` say comes from here: an ensemble on a fold."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lungbox.datasets.types import Dataset
from lungbox.engines import Engine, EngineName
from lungbox.evaluation.maps import Maps, predict_maps
from lungbox.evaluation.operating_point import CrossFit, Grid, cross_fit
from lungbox.evaluation.scores import Judged, judge
from lungbox.evaluation.unseen import unseen_images
from lungbox.paths import cache_folder
from lungbox.pipeline import load
from lungbox.progress import bar


@dataclass(frozen=True)
class Part:
    """One data set of the fold, predicted and judged."""

    maps: Maps
    judged: Judged


@dataclass(frozen=True)
class Assessment:
    """An ensemble on a fold that its weights have not seen.

    Attributes:
        ensemble: its name in the manifest.
        fold: the fold.
        ran_on: what ran it, as `engine, precision`.
        fitted: the operating points chosen on RSNA's images.
        rsna: each patient's boxes are made at the point chosen on the other patients.
        siim: made at the point chosen on all of RSNA's; None where there are no such images.
    """

    ensemble: str
    fold: int
    ran_on: str
    fitted: CrossFit
    rsna: Part
    siim: Part | None

    @property
    def parts(self) -> dict[str, Part]:
        """The data sets by the names they are shown under."""
        named = {"RSNA": self.rsna, "SIIM-COVID": self.siim}
        return {name: part for name, part in named.items() if part}


def assess(
    data: Path, fold: int, ensemble: str, engine: EngineName, say: Console, grid: Grid | None = None
) -> Assessment:
    """Predict a fold, choose operating points, judge.

    Args:
        data: labelled radiographs.
        fold: one that no member of the ensemble has seen.
        ensemble: a name in the manifest.
        engine: what runs it.
        say: where progress is shown.
        grid: the operating points tried.

    Raises:
        LungboxError: the data is not there, or the weights have seen the fold.
    """
    images = unseen_images(ensemble, data, fold)
    running = load(ensemble, engine, batch_size=8).engine
    rsna, siim = (
        maps_shown(images.where(_is_from(source)), running, say) for source in ("rsna", "siim")
    )
    fitted = cross_fit(rsna, grid or Grid())
    points = (fitted.point,) * len(siim.dataset)
    return Assessment(
        ensemble=ensemble,
        fold=fold,
        ran_on=f"{running.name}, {running.precision}",
        fitted=fitted,
        rsna=Part(rsna, judge(rsna, fitted.points)),
        siim=Part(siim, judge(siim, points)) if len(siim.dataset) else None,
    )


def maps_shown(dataset: Dataset, engine: Engine, say: Console) -> Maps:
    """What an engine says of a data set, with a bar while it is asked."""
    doing = "Running, mirrored too" if engine.job.flip else "Running"
    with bar(say, doing, len(dataset)) as progress:
        return predict_maps(dataset, engine, cache_folder(), running=progress.advance)


def _is_from(source: str) -> Callable[..., bool]:
    return lambda image: image.source == source
