"""What stands in a report: figures as text, curves and radiographs as pictures inside the page."""

import base64
import csv
import io
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lungbox import __version__, overlay
from lungbox.boxes import OperatingPoint
from lungbox.constants import CLASS_NAMES, OPACITY, RESEARCH_USE, RSNA_CLASSES
from lungbox.evaluation.assess import (
    Assessment,
    Part,
    all_groups,
    box_figures_as_it_is,
    figures_of,
)
from lungbox.evaluation.cases import telling_cases
from lungbox.evaluation.figures import Figure
from lungbox.evaluation.groups import Group, recall_by_size
from lungbox.evaluation.operating_point import as_toml, in_brief
from lungbox.evaluation.report import plots
from lungbox.evaluation.report.plots import picture
from lungbox.evaluation.scores import AGAINST_NORMAL, AGAINST_NOT_NORMAL, AT_MIX, RAW, VIEW_ALONE
from lungbox.evaluation.sweep import sweeps
from lungbox.findings import Findings
from lungbox.metrics.classification import (
    RocCurve,
    expected_calibration_error,
    reliability,
    roc_curve,
)
from lungbox.metrics.curves import DetectionCurve
from lungbox.metrics.matching import BoxTable
from lungbox.radiograph import read
from lungbox.weights.manifest import load_manifest

_CURVE_IOU = 0.4
_EACH = 6
_TILE = 300  # pixels
# Figures, and what stands beside them.
_HEADLINES = (
    (AT_MIX, ""),
    (RAW, ""),
    (AGAINST_NORMAL, f"{VIEW_ALONE} against normal"),
    (AGAINST_NOT_NORMAL, f"{VIEW_ALONE} against not normal"),
)


@dataclass(frozen=True)
class Plot:
    """A picture as a data URI, and what it shows."""

    image: str
    title: str
    text: str


@dataclass(frozen=True)
class Tile:
    """A radiograph as a data URI, and what is known of it."""

    image: str
    identity: str
    category: str
    score: float
    worth: str


@dataclass(frozen=True)
class Content:
    """Everything the page's template names."""

    title: str
    facts: dict[str, str]
    warning: str
    headlines: list[tuple[Figure, Figure | None]]
    tables: dict[str, list[Figure]]
    as_it_is: dict[str, list[Figure]]
    own: str
    groups: list[Group]
    forest: Plot
    sizes: dict[str, list[Figure]]
    curves: list[Plot]
    sweeps: list[Plot]
    montages: dict[str, dict[str, list[Tile]]]
    point: str
    points: list[str]
    runs: list[Plot]


def gather(found: Assessment) -> Content:
    """Compute and draw all of it."""
    tables = {name: figures_of(name, part.judged) for name, part in found.parts.items()}
    by_name = {figure.name: figure for figure in tables["RSNA"]}
    groups = all_groups(found)
    forest = picture(plots.forest, groups, size=plots.forest_size(groups))
    return Content(
        title=f"{found.ensemble} on fold {found.fold}",
        facts=_facts(found),
        warning=RESEARCH_USE,
        headlines=[(by_name[name], by_name.get(beside)) for name, beside in _HEADLINES],
        tables=tables,
        as_it_is=box_figures_as_it_is(found),
        own=in_brief(found.own),
        groups=groups,
        forest=Plot(forest, "", "In brackets: images with opacity, of all."),
        sizes={name: recall_by_size(part.judged) for name, part in found.parts.items()},
        curves=_curves(found),
        sweeps=_sweeps(found),
        montages={name: _montage(part) for name, part in found.parts.items()},
        point=as_toml(found.fitted.point),
        points=sorted({in_brief(point) for point in found.fitted.points}),
        runs=_runs(found.ensemble),
    )


def _facts(found: Assessment) -> dict[str, str]:
    manifest = load_manifest()
    ensemble = manifest.ensemble(found.ensemble)
    members = (f"{name} ({manifest.weights[name].architecture})" for name in ensemble.members)
    images = ", ".join(f"{name} {len(part.maps.dataset)}" for name, part in found.parts.items())
    return {
        "Networks": ", ".join(members),
        "Images": f"{images}, of patients no network was trained on",
        "Run by": found.ran_on,
        "Made": f"{datetime.now(UTC):%Y-%m-%d} by Lungbox {__version__}",
    }


def _curves(found: Assessment) -> list[Plot]:
    scored = {name: _scored(part) for name, part in found.parts.items()}
    bins = {name: reliability(*pair) for name, pair in scored.items()}
    errors = (f"{name} {expected_calibration_error(*pair):.3f}" for name, pair in scored.items())
    detections = {name: _ungated(part, found.fitted.point) for name, part in found.parts.items()}
    ranked = "boxes without the gate, ranked by image score times confidence"
    return [
        Plot(
            picture(plots.roc, _roc_curves(found), found.fitted.point.gate),
            "ROC of the image score",
            "dots: at the gate",
        ),
        Plot(
            picture(plots.calibration, bins),
            "Reliability of the image score",
            f"bars: how many images; expected calibration error: {', '.join(errors)}",
        ),
        Plot(
            picture(plots.precision_recall, detections),
            f"Precision and recall, IoU >= {_CURVE_IOU}",
            ranked,
        ),
        Plot(picture(plots.free_response, detections), f"FROC, IoU >= {_CURVE_IOU}", ranked),
    ]


def _scored(part: Part) -> tuple[np.ndarray, np.ndarray]:
    return part.judged.outcomes.truths > 0, part.judged.image_scores


def _roc_curves(found: Assessment) -> dict[str, RocCurve]:
    truth, scores = _scored(found.rsna)
    category = np.array([image.category for image in found.rsna.judged.dataset.images])
    curves = {
        f"RSNA, against {name.lower()}": roc_curve(truth[chosen], scores[chosen])
        for name in RSNA_CLASSES[:2]
        for chosen in [truth | (category == name)]
    }
    if found.siim:
        curves["SIIM-COVID"] = roc_curve(*_scored(found.siim))
    return curves


def _ungated(part: Part, point: OperatingPoint) -> DetectionCurve:
    """Every box at the point's values but for its gate."""
    open_point = replace(point, gate=0.0)
    images = part.maps.dataset.images
    found = [part.maps.boxes(row, open_point) for row in range(len(images))]
    boxes = [of_image for of_image, _ in found]
    pairs = zip(found, part.maps.scores, strict=True)
    scores = [confidences * score for (_, confidences), score in pairs]
    truth = BoxTable.of([image.boxes for image in images])
    return DetectionCurve.of(truth, BoxTable.of(boxes, scores), len(images), _CURVE_IOU)


def _sweeps(found: Assessment) -> list[Plot]:
    point = found.fitted.point
    return [
        Plot(picture(plots.sweep, curve, getattr(point, curve.key), size=plots.LOW), "", curve.key)
        for curve in sweeps(found.rsna.maps, point)
    ]


def _montage(part: Part) -> dict[str, list[Tile]]:
    cases = telling_cases(part.judged, _EACH)
    kinds = {
        "Best": cases.best,
        "Worst boxes": cases.worst,
        "False positives": cases.false_positives,
        "Missed": cases.missed,
    }
    return {kind: [_tile(part, int(row)) for row in rows] for kind, rows in kinds.items()}


def _tile(part: Part, row: int) -> Tile:
    image = part.judged.dataset.images[row]
    boxes, scores = part.judged.found[row]
    score = float(part.judged.image_scores[row])
    findings = Findings(
        identity=image.identity,
        size=image.size,
        image_score=score,
        boxes=boxes,
        scores=scores,
        labels=(CLASS_NAMES[OPACITY],) * len(scores),
    )
    pixels = read(image.path).pixels
    drawn = overlay.beside_truth(pixels, part.maps.mask(row), findings, image.boxes, _TILE)
    buffer = io.BytesIO()
    drawn.save(buffer, format="JPEG", quality=80)
    worth = part.judged.outcomes.parts[row]
    return Tile(
        image="data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(),
        identity=image.identity,
        category=image.category,
        score=score,
        worth="–" if np.isnan(worth) else f"{worth:.2f}",
    )


def _runs(ensemble: str) -> list[Plot]:
    """Losses of the runs that the members' files lie in, where they do."""
    manifest, found = load_manifest(), []
    for name in manifest.ensemble(ensemble).members:
        for source in manifest.weights[name].sources:
            log = Path(source.removeprefix("file:")).parent / "log.csv"
            columns = _columns(log) if source.startswith("file:") else {}
            if columns:
                drawn = picture(plots.training, columns, size=plots.WIDE)
                found.append(Plot(drawn, name, f"losses of {name} by epoch"))
    return found


def _columns(log: Path) -> dict[str, list[float]]:
    """The log's columns; none where it is not one of a run."""
    try:
        with log.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        found = {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}
    except (OSError, ValueError, TypeError, IndexError):
        return {}
    return found if "epoch" in found else {}
