"""`lungbox evaluate` and `lungbox report` on phantoms: the same figures, on a page of its own."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from lungbox.boxes import geometry
from lungbox.cli import main
from lungbox.common.paths import cache_folder
from lungbox.constants import RSNA_CLASS_MIX
from lungbox.datasets.phantom import draw, write_rsna
from lungbox.evaluation import evaluator, operating_point
from lungbox.evaluation.operating_point import SearchGrid
from lungbox.weights.entries import Calibration, Ensemble
from lungbox.weights.manifest import load_manifest, register, register_ensemble
from tests.tiny import enter_tiny

pytestmark = pytest.mark.usefixtures("small_networks")


class Page(HTMLParser):
    """Everything a browser would look up, the cells of tables, and headings."""

    def __init__(self, text):
        super().__init__()
        self.links, self.cells, self.headings, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag in ("td", "h2", "h3"):
            self.open.append(tag)
            (self.cells if tag == "td" else self.headings).append("")

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if self.open:
            (self.cells if self.open[-1] == "td" else self.headings)[-1] += data


def run(capfd, *arguments):
    with pytest.raises(SystemExit) as ended:
        main.main([*map(str, arguments)])
    said = capfd.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.fixture
def data(tmp_path):
    write_rsna(tmp_path / "data", count=60, size=96)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def tiny(own_home, tmp_path, monkeypatch):
    grid = SearchGrid(thresholds=(0.4, 0.6), min_areas=(0.001,), shrinks=(0.05,), gates=5)
    monkeypatch.setattr(evaluator, "SearchGrid", lambda: grid)
    monkeypatch.setattr(operating_point, "RESAMPLES", 20)
    return enter_tiny(tmp_path)


def test_two_ensembles_side_by_side(capfd, data, tmp_path):
    enter_tiny(tmp_path, "other", seed=3)
    shared = ("--data", data, "--ensemble", "tiny")
    code, out, err = run(capfd, "evaluate", *shared, "--against", "other")
    assert code == 0, err
    rows = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| ")]
    figures = {row[0]: row[1:] for row in rows[2:]}
    assert rows[0] == ["figure", "tiny", "other", "paired difference"]
    auc = [float(cell.split()[0]) for cell in figures["image AUC against both"]]
    assert auc[2] == pytest.approx(auc[0] - auc[1], abs=0.0011)
    _, alone, _ = run(capfd, "evaluate", *shared)
    assert f"| image AUC against both | {figures['image AUC against both'][0]} | 12 |" in alone
    _, itself, _ = run(capfd, "evaluate", *shared, "--against", "tiny")
    differences = [
        line.strip("| ").split(" | ")[3] for line in itself.splitlines() if line.startswith("| ")
    ]
    assert set(differences[2:]) <= {"0.000 (0.000 to 0.000)", "–"}


def test_other_data_sets_of_the_fold_follow(capfd, data, tmp_path):
    """Those of a folder of one's own, too, at the point that is chosen on the challenge's."""
    own = data / "own"
    own.mkdir()
    rows = ["image_id,x,y,width,height,class,fold"]
    for number in range(6):
        drawn = draw(96, number % 3, np.random.default_rng((8, number)))
        Image.fromarray(drawn.pixels[:80]).save(own / f"{number}.png")
        boxes = geometry.to_xywh(drawn.boxes).tolist()
        rows += [f"{number},{x},{y},{w},{h},Mass,0" for x, y, w, h in boxes] or [f"{number},,,,,,0"]
    (own / "boxes.csv").write_text("\n".join(rows) + "\n")
    both = tmp_path / "both"
    both.mkdir()
    (both / "rsna").symlink_to(data)
    (both / "own").symlink_to(own)
    _, alone, _ = run(capfd, "evaluate", "--data", data, "--ensemble", "tiny")
    code, out, err = run(capfd, "evaluate", "--data", both, "--ensemble", "tiny")
    assert code == 0, err
    headings = [line for line in out.splitlines() if line.startswith("## ")]
    assert headings[:2] == ["## RSNA, 12 images", "## plain, 6 images"]
    assert out.split("## plain, 6")[0] == alone.split("## At the")[0]
    figures = out.split("## plain, 6")[1].split("## At the")[0]
    assert "| image AUC against negative | " in figures
    assert "| recall of images (any box on a positive) | " in figures
    assert "normal" not in figures
    assert "challenge's mix" not in figures


def test_the_page_says_what_evaluate_says_and_needs_nothing_else(capfd, data, tmp_path):
    code, out, err = run(capfd, "evaluate", "--data", data, "--ensemble", "tiny")
    assert code == 0, err
    output = tmp_path / "pages" / "report.html"
    code, _, err = run(capfd, "report", "--data", data, "--ensemble", "tiny", "--output", output)
    assert code == 0, err
    assert str(output) in err
    text = output.read_text(encoding="utf-8")
    page = Page(text)
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| ")]
    figures = [row[1] for row in rows if re.match(r"\d\.\d{3} \(", row[1])]
    assert len(figures) > 12
    assert set(figures) <= set(page.cells)
    # Nothing outside the page is asked for.
    assert all(link.startswith(("#", "data:image/")) for link in page.links)
    assert "url(" not in text
    assert "<script" not in text
    assert "not for diagnosis" in text
    assert any(heading.startswith("RSNA: ") for heading in page.headings)


def test_radiographs_and_curves_are_pictures_that_open(capfd, data, tmp_path):
    output = tmp_path / "report.html"
    run(capfd, "report", "--data", data, "--ensemble", "tiny", "--output", output)
    links = Page(output.read_text(encoding="utf-8")).links
    jpegs = [link for link in links if link.startswith("data:image/jpeg;base64,")]
    svgs = [link for link in links if link.startswith("data:image/svg+xml;base64,")]
    assert len(jpegs) >= 3
    assert len(svgs) == 4 + 4 + 1  # curves, values, groups; no run, so no losses
    for link in jpegs:
        picture = Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2])))
        assert picture.size == (300, 300)
        assert picture.mode == "RGB"


def test_the_losses_of_the_run_are_drawn_where_they_lie_beside_the_weights(
    capfd, data, tmp_path, tiny
):
    log = "epoch,loss,mask_loss,image_loss,seconds\n1,0.9,0.5,nan,3\n2,0.7,0.4,nan,3\n"
    (tiny.parent / "log.csv").write_text(log)
    output = tmp_path / "report.html"
    code, _, err = run(capfd, "report", "--data", data, "--ensemble", "tiny", "--output", output)
    assert code == 0, err
    assert "Training" in Page(output.read_text(encoding="utf-8")).headings


def test_names_that_look_like_html_stay_text(capfd, data, tmp_path):
    classes = data / "stage_2_detailed_class_info.csv"
    table = classes.read_text().replace("Normal\n", "<b>Normal</b>\n")
    classes.write_text(table)
    output = tmp_path / "report.html"
    run(capfd, "report", "--data", data, "--ensemble", "tiny", "--output", output)
    text = output.read_text(encoding="utf-8")
    assert "<b>Normal</b>" not in text
    assert "&lt;b&gt;Normal" in text


def test_a_fold_that_was_seen_is_refused_and_leaves_no_page(capfd, data, tmp_path):
    output = tmp_path / "report.html"
    code, _, err = run(
        capfd,
        "report",
        *("--data", data, "--ensemble", "tiny", "--fold", 3, "--output", output),
    )
    assert code == 2
    assert "tiny was trained on fold 3" in err
    assert not output.exists()


def test_weights_of_unknown_training_are_not_scored(capfd, data, tiny):
    weights = load_manifest().weights["tiny"].model_copy(update={"folds": None, "sha256": ""})
    register("stranger", weights, Ensemble(members=("stranger",)))
    code, _, err = run(capfd, "evaluate", "--data", data, "--ensemble", "stranger")
    assert code == 2
    assert "it is not known which folds stranger was trained on" in err
    # The same file under another name is known by its hash.
    twin = load_manifest().weights["tiny"].model_copy(update={"folds": None})
    register("twin", twin, Ensemble(members=("twin",)))
    assert load_manifest().training_folds("twin") == {1, 2, 3, 4}


def test_a_fold_by_whose_score_a_run_was_stopped_is_seen(capfd, data, tiny):
    weights = load_manifest().weights["tiny"].model_copy(update={"selected_on": 0})
    register("stopped", weights, Ensemble(members=("stopped",)))
    code, _, err = run(capfd, "evaluate", "--data", data, "--ensemble", "stopped")
    assert code == 2
    assert "chosen by its score" in err


@pytest.mark.parametrize("fold", ["-1", "5"])
def test_there_are_five_folds(capfd, data, fold):
    code, _, err = run(capfd, "tune", "--data", data, "--ensemble", "tiny", f"--fold={fold}")
    assert code == 2
    assert "folds are numbered 0 to 4" in err


def test_an_output_that_is_a_folder_is_named_before_any_work(capfd, data, tmp_path):
    code, _, err = run(
        capfd, "report", "--data", data / "nowhere", "--ensemble", "tiny", "--output", tmp_path
    )
    assert code == 2
    assert f"{tmp_path} is a folder" in err


def test_odd_labels_and_leavings_do_not_stop_it(capfd, data, tmp_path, tiny):
    """An impossible age, kept maps cut short, and a log that is none."""
    table = data / "images.csv"
    lines = table.read_text().splitlines()
    lines = [lines[0] + ",PatientAge", *(f"{line},{400 + n}" for n, line in enumerate(lines[1:]))]
    table.write_text("\n".join(lines))
    code, out, err = run(capfd, "evaluate", "--data", data, "--ensemble", "tiny")
    assert code == 0, err
    assert "RSNA, age" not in out
    for kept in cache_folder().glob("maps-*.npz"):
        kept.write_bytes(kept.read_bytes()[:300])
    (tiny.parent / "log.csv").write_text("what,ever\nabc,1\n")
    output = tmp_path / "report.html"
    code, _, err = run(capfd, "report", "--data", data, "--ensemble", "tiny", "--output", output)
    assert code == 0, err
    assert "Training" not in Page(output.read_text(encoding="utf-8")).headings
    assert "nan to nan" not in output.read_text(encoding="utf-8")


def test_without_a_class_there_is_no_mix(capfd, data):
    classes = data / "stage_2_detailed_class_info.csv"
    classes.write_text(classes.read_text().replace("No Lung Opacity / Not Normal", "Normal"))
    code, out, err = run(capfd, "evaluate", "--data", data, "--ensemble", "tiny")
    assert code == 0, err
    assert "| RSNA metric, challenge's mix | – |" in out
    code, _, err = run(capfd, "tune", "--data", data, "--ensemble", "tiny")
    assert code == 2
    assert "lacks one of RSNA's classes" in err


def figures_of(out, heading):
    """The rows of the first table under a heading, by their first cell."""
    lines = out.split(f"\n{heading}\n")[1].split("\n## ")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows[2:]}


def test_another_operating_point_and_gate(capfd, data):
    """The gate is on the calibrated scale; at 1 nothing passes, at 0 everything does."""
    known = load_manifest().ensemble("tiny")
    calibration = Calibration(slope=2.0, intercept=1.0, prevalence=0.3)
    points = {"open": {"rule": "threshold", "threshold": 0.01, "min_area": 0.0}}
    changes = {"calibration": calibration, "operating_points": points}
    entry = Ensemble(**known.model_dump(exclude=set(changes)), **changes)
    register_ensemble("calibrated", entry)
    shared = ("evaluate", "--data", data, "--ensemble", "calibrated", "--operating-point", "open")
    _, opened, _ = run(capfd, *shared)
    recall = "recall of images (any box on a positive)"
    # The table of the data set itself follows this one's heading.
    assert "## At the operating point open\n\n" in opened
    at_open = opened.split("## At the operating point open")[1]
    assert figures_of(at_open, "### RSNA")[recall][0] == "1.000 (1.000 to 1.000)"
    _, closed, _ = run(capfd, *shared, "--gate", 1)
    at_closed = closed.split("## At the operating point open, gate 1\n")[1]
    assert figures_of(at_closed, "### RSNA")[recall][0] == "0.000 (0.000 to 0.000)"
    assert opened.split("## At the")[0] == closed.split("## At the")[0]
    code, _, err = run(capfd, *shared, "--gate", 1.2)
    assert code == 2
    assert err.strip() == "lungbox: gate 1.2: give an image score, from 0 to 1"


@pytest.mark.parametrize("folds", [(3,), (0, 3), ()])
def test_a_calibration_of_the_same_fold_is_cross_fitted(capfd, data, folds):
    """The ensemble's own only where it was fitted on other folds."""
    known = load_manifest().ensemble("tiny")
    own = Calibration(slope=1.0, intercept=-40.0, prevalence=0.3, folds=folds)
    register_ensemble("calibrated", known.model_copy(update={"calibration": own}))
    code, out, err = run(capfd, "evaluate", "--data", data, "--ensemble", "calibrated")
    assert code == 0, err
    errors = figures_of(out, "## Calibration of the image score")
    if folds == (3,):
        assert "the ensemble's own calibration, which was fitted on fold 3." in out
        # It calls everything 0, so the error is the prevalence.
        share = RSNA_CLASS_MIX["Lung Opacity"] / sum(RSNA_CLASS_MIX.values())
        assert errors["RSNA, calibrated"][0].startswith(f"{share:.3f} (")
    else:
        assert "the ensemble's own calibration" not in out
        assert errors.get("RSNA, calibrated", ["–"])[0] != f"{0.225:.3f} (0.225 to 0.225)"
    assert errors["RSNA, image score"][1] == "12"
