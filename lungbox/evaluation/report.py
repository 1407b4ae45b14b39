"""`lungbox evaluate`: an ensemble's figures on a fold it was not trained on, as Markdown."""

from pathlib import Path

from rich.console import Console

from lungbox import datasets
from lungbox.boxes import OperatingPoint
from lungbox.constants import FOLDS
from lungbox.datasets.types import Dataset, DatasetError
from lungbox.engines import Engine, EngineName
from lungbox.errors import LungboxError
from lungbox.evaluation.maps import Maps, predict_maps
from lungbox.evaluation.operating_point import CrossFit, Grid, cross_fit
from lungbox.evaluation.scores import Figure, judge, rsna_figures, siim_figures
from lungbox.paths import cache_folder
from lungbox.pipeline import load
from lungbox.progress import bar
from lungbox.weights.manifest import load_manifest


class TrainedOnError(LungboxError):
    """The weights were trained on the images they are to be scored on."""


def run(data: Path, fold: int, ensemble: str, engine: EngineName, say: Console) -> None:
    """Print tables of figures, and the operating point that fits best.

    The RSNA figures are cross-fitted: the boxes of each patient come from the operating point
    chosen on the others.

    Raises:
        LungboxError: the data is not there, or the weights have seen the fold.
    """
    _check_unseen(ensemble, fold)
    images = datasets.load(data).folds([fold]).where(lambda image: not image.uncertain)
    if not images.images:
        raise DatasetError(f"{data}: has no images in fold {fold}")
    if not any(image.source == "rsna" for image in images.images):
        raise DatasetError(f"{data}: has no RSNA image in fold {fold}, whose metric this is")
    if any(image.source == "rsna" and not image.category for image in images.images):
        raise DatasetError(
            f"{data}: RSNA's figures are by class, and stage_2_detailed_class_info.csv, which "
            "gives them, is not there or lacks images"
        )
    detector = load(ensemble, engine, batch_size=8)
    rsna = _maps(images.where(lambda image: image.source == "rsna"), detector.engine, say)
    siim = _maps(images.where(lambda image: image.source == "siim"), detector.engine, say)
    fitted = cross_fit(rsna, Grid())
    print(f"# {ensemble}, fold {fold}\n")
    print(_table(f"RSNA, {len(rsna.dataset)} images", rsna_figures(judge(rsna, fitted.points))))
    if len(siim.dataset):
        points = (fitted.point,) * len(siim.dataset)
        figures = siim_figures(judge(siim, points))
        print(_table(f"SIIM-COVID, {len(siim.dataset)} images", figures))
    print(_chosen(fitted))


def _check_unseen(ensemble: str, fold: int) -> None:
    manifest = load_manifest()
    for member in manifest.ensemble(ensemble).members:
        if fold in manifest.weights[member].folds:
            unseen = sorted(set(range(FOLDS)) - set(manifest.weights[member].folds))
            raise TrainedOnError(
                f"{member} was trained on fold {fold}; "
                + (f"give one of {', '.join(map(str, unseen))}" if unseen else "and on all others")
            )


def _maps(dataset: Dataset, engine: Engine, say: Console) -> Maps:
    with bar(say, "Running", len(dataset)) as progress:
        return predict_maps(dataset, engine, cache_folder(), running=progress.advance)


def _table(title: str, figures: list[Figure]) -> str:
    lines = [f"## {title}\n", "| figure | value (95 % interval) | images |", "| --- | --- | --- |"]
    lines += [f"| {figure.name} | {figure} | {figure.images} |" for figure in figures]
    return "\n".join(lines) + "\n"


def _chosen(fitted: CrossFit) -> str:
    lines = ["## Operating point\n", "Chosen on the whole fold, for the manifest:\n", "```toml"]
    point = fitted.point
    lines += [f'rule = "{point.rule}"', f"threshold = {point.threshold}"]
    lines += [f"min_area = {point.min_area}", f"shrink = {point.shrink}", f"gate = {point.gate}"]
    lines.append("```\n\nChosen on the other patients, part by part:\n")
    different = sorted({_brief(other) for other in fitted.points})
    return "\n".join(lines + [f"- {text}" for text in different])


def _brief(point: OperatingPoint) -> str:
    values = vars(point)
    return ", ".join(f"{k} {values[k]}" for k in ("gate", "threshold", "min_area", "shrink"))
