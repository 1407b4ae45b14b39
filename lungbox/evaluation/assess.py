"""Everything `lungbox evaluate` and `lungbox report` say comes from here: an ensemble on a fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lungbox.boxes import OperatingPoint
from lungbox.datasets.types import Dataset
from lungbox.engines import Engine, EngineName, PrecisionName, chosen
from lungbox.evaluation.figures import Figure
from lungbox.evaluation.groups import Group, groups, whole
from lungbox.evaluation.maps import Maps, predict_maps
from lungbox.evaluation.operating_point import CrossFit, Grid, cross_fit
from lungbox.evaluation.scores import Judged, judge, rsna_figures, siim_figures
from lungbox.evaluation.unseen import unseen_images
from lungbox.paths import cache_folder
from lungbox.pipeline import load
from lungbox.progress import bar
from lungbox.weights.manifest import load_manifest


@dataclass(frozen=True)
class Subject:
    """An ensemble, and the fold it is assessed on.

    Attributes:
        data: labelled radiographs.
        fold: one that no member of the ensemble has seen.
        ensemble: a name in the manifest.
        engine: what runs it.
        precision: the type it computes in.
    """

    data: Path
    fold: int
    ensemble: str
    engine: EngineName = "auto"
    precision: PrecisionName = "float32"

    def images(self) -> Dataset:
        """The fold's images; see `unseen_images`."""
        return unseen_images(self.ensemble, self.data, self.fold)

    def start(self, say: Console) -> Engine:
        """What runs the ensemble, started; it is said where something faster was not taken."""
        running = load(self.ensemble, self.engine, 8, self.precision).engine
        if running.job.notes:
            say.print(chosen(running), markup=False)
        return running


@dataclass(frozen=True)
class Part:
    """One data set of the fold, predicted and judged.

    Attributes:
        maps: what the networks say.
        judged: RSNA's patients at the point chosen on the others, SIIM-COVID at the one chosen
            on all of RSNA's.
        as_it_is: all of them at the ensemble's own point.
    """

    maps: Maps
    judged: Judged
    as_it_is: Judged


@dataclass(frozen=True)
class Assessment:
    """An ensemble on a fold that its weights have not seen.

    Attributes:
        ensemble: its name in the manifest.
        fold: the fold.
        ran_on: what ran it, as `engine, precision`.
        fitted: the operating points chosen on RSNA's images.
        own: the ensemble's own, as the manifest has it.
        rsna: the part that operating points are chosen on.
        siim: None where there are no such images.
    """

    ensemble: str
    fold: int
    ran_on: str
    fitted: CrossFit
    own: OperatingPoint
    rsna: Part
    siim: Part | None

    @property
    def parts(self) -> dict[str, Part]:
        """The data sets by the names they are shown under."""
        named = {"RSNA": self.rsna, "SIIM-COVID": self.siim}
        return {name: part for name, part in named.items() if part}


def assess(subject: Subject, say: Console) -> Assessment:
    """Predict a fold, choose operating points, judge.

    Args:
        subject: what is assessed.
        say: where progress is shown.

    Raises:
        LungboxError: the data is not there, or the weights have seen the fold.
    """
    images = subject.images()
    running = subject.start(say)
    rsna, siim = (maps_shown(images.of_source(source), running, say) for source in ("rsna", "siim"))
    fitted = cross_fit(rsna, Grid())
    own = load_manifest().ensemble(subject.ensemble).point

    def part(maps: Maps, points: Sequence[OperatingPoint]) -> Part:
        return Part(maps, judge(maps, points), judge(maps, (own,) * len(maps.dataset)))

    return Assessment(
        ensemble=subject.ensemble,
        fold=subject.fold,
        ran_on=f"{running.name}, {running.precision}",
        fitted=fitted,
        own=own,
        rsna=part(rsna, fitted.points),
        siim=part(siim, (fitted.point,) * len(siim.dataset)) if len(siim.dataset) else None,
    )


def maps_shown(dataset: Dataset, engine: Engine, say: Console) -> Maps:
    """What an engine says of a data set, with a bar while it is asked."""
    doing = "Running, mirrored too" if engine.job.flip else "Running"
    with bar(say, doing, len(dataset)) as progress:
        return predict_maps(dataset, engine, cache_folder(), running=progress.advance)


def figures_of(name: str, judged: Judged) -> list[Figure]:
    """The figures a data set is judged by."""
    return rsna_figures(judged) if name == "RSNA" else siim_figures(judged)


def box_figures_as_it_is(found: Assessment) -> dict[str, list[Figure]]:
    """The figures of boxes, at the ensemble's own point, by data set."""
    return {
        name: [figure for figure in figures_of(name, part.as_it_is) if "AUC" not in figure.name]
        for name, part in found.parts.items()
    }


def all_groups(found: Assessment) -> list[Group]:
    """Data sets as a whole, then the groups within each."""
    wholes = [whole(part.judged, "data set", name) for name, part in found.parts.items()]
    within = [(name, group) for name, part in found.parts.items() for group in groups(part.judged)]
    return wholes + [group.under(name) for name, group in within]
