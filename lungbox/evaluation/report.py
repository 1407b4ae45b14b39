"""`lungbox evaluate`: an ensemble's figures on a fold it was not trained on, as Markdown."""

import json
from pathlib import Path

from rich.console import Console

from lungbox.boxes import OperatingPoint
from lungbox.datasets.types import Dataset
from lungbox.engines import Engine, EngineName
from lungbox.evaluation.maps import Maps, predict_maps
from lungbox.evaluation.operating_point import CrossFit, Grid, cross_fit
from lungbox.evaluation.scores import Figure, judge, rsna_figures, siim_figures
from lungbox.evaluation.unseen import unseen_images
from lungbox.paths import cache_folder
from lungbox.pipeline import load
from lungbox.progress import bar

_ALWAYS = ("rule", "threshold", "min_area", "shrink", "gate")


def run(data: Path, fold: int, ensemble: str, engine: EngineName, say: Console) -> None:
    """Print tables of figures, and the operating point that fits best.

    The RSNA figures are cross-fitted: the boxes of each patient come from the operating point
    chosen on the others.

    Raises:
        LungboxError: the data is not there, or the weights have seen the fold.
    """
    images = unseen_images(ensemble, data, fold)
    detector = load(ensemble, engine, batch_size=8)
    rsna = maps_shown(images.where(lambda image: image.source == "rsna"), detector.engine, say)
    siim = maps_shown(images.where(lambda image: image.source == "siim"), detector.engine, say)
    fitted = cross_fit(rsna, Grid())
    print(f"# {ensemble}, fold {fold}\n")
    print(_table(f"RSNA, {len(rsna.dataset)} images", rsna_figures(judge(rsna, fitted.points))))
    if len(siim.dataset):
        points = (fitted.point,) * len(siim.dataset)
        figures = siim_figures(judge(siim, points))
        print(_table(f"SIIM-COVID, {len(siim.dataset)} images", figures))
    print(_chosen(fitted))


def maps_shown(dataset: Dataset, engine: Engine, say: Console) -> Maps:
    """What an engine says of a data set, with a bar while it is asked."""
    doing = "Running, mirrored too" if engine.job.flip else "Running"
    with bar(say, doing, len(dataset)) as progress:
        return predict_maps(dataset, engine, cache_folder(), running=progress.advance)


def _table(title: str, figures: list[Figure]) -> str:
    lines = [f"## {title}\n", "| figure | value (95 % interval) | images |", "| --- | --- | --- |"]
    lines += [f"| {figure.name} | {figure} | {figure.images} |" for figure in figures]
    return "\n".join(lines) + "\n"


def _chosen(fitted: CrossFit) -> str:
    lines = ["## Operating point\n", "Chosen on the whole fold, for the manifest:\n", "```toml"]
    lines.append(as_toml(fitted.point))
    lines.append("```\n\nChosen on the other patients, part by part:\n")
    different = sorted({_brief(other) for other in fitted.points})
    return "\n".join(lines + [f"- {text}" for text in different])


def as_toml(point: OperatingPoint) -> str:
    """What a manifest says of an operating point; what is as it would be anyway is left out,
    except for the five keys that always matter."""
    plain, values = vars(OperatingPoint()), vars(point)
    shown = {key: value for key, value in values.items() if key in _ALWAYS or value != plain[key]}
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in shown.items())


def _brief(point: OperatingPoint) -> str:
    return as_toml(point).replace(" = ", " ").replace("\n", ", ")
