"""Networks that answer NaN: the file fails with a reason, and results stay valid JSON."""

import csv
import json
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from lungbox.cli import main
from lungbox.datasets.phantom import draw
from lungbox.engines import EngineError
from lungbox.findings import Findings
from lungbox.inference import predictor
from lungbox.inference.files import ImageFile
from lungbox.inference.predictor import Detector, ImageResult
from lungbox.inference.resume import ResumeLog
from lungbox.radiograph import prepare
from tests.inference.test_resume import StopError
from tests.tiny import SIDE, enter_tiny

pytestmark = pytest.mark.usefixtures("small_networks")

REASON = (
    "the networks' prediction for it is not finite (NaN or infinite); "
    "check their weights, or try --precision float32"
)


class Spoilt:
    """An engine whose masks, or scores, of some radiographs are not finite."""

    def __init__(self, engine, masks, scores):
        self.name, self.precision, self.config = engine.name, engine.precision, engine.config
        self._engine, self._masks, self._scores = engine, masks, scores

    def predict(self, images):
        found = self._engine.predict(images)
        for row, image in enumerate(images):
            if any(np.array_equal(image, other) for other in self._masks):
                found.masks[row, 3, 5, 1] = np.nan
            if any(np.array_equal(image, other) for other in self._scores):
                found.scores[row] = np.inf
        return found


def chest(number: int) -> np.ndarray:
    """96 pixels wide, 128 high."""
    return draw(128, number % 3, np.random.default_rng(number)).pixels[:, :96]


@pytest.fixture
def spoilt(own_home, tmp_path, monkeypatch):
    """`tiny`, which answers NaN to the second file and infinity to the fourth."""
    enter_tiny(tmp_path)
    (tmp_path / "in").mkdir()
    for number in range(5):
        Image.fromarray(chest(number)).save(tmp_path / f"in/chest-{number}.png")
    mask, score = prepare(chest(1), SIDE), prepare(chest(3), SIDE)
    start = predictor.start
    monkeypatch.setattr(predictor, "start", lambda *asked: Spoilt(start(*asked), [mask], [score]))


def test_such_files_fail_and_the_others_do_not(spoilt, capfd, tmp_path):
    arguments = ["--ensemble", "tiny", "--output", str(tmp_path / "out"), "--overlays"]
    with pytest.raises(SystemExit) as ended:
        main.main(["predict", str(tmp_path / "in"), *arguments])
    assert ended.value.code == 3
    assert "3 radiographs read" in capfd.readouterr().err
    with (tmp_path / "out/failed.csv").open(newline="") as file:
        failed = list(csv.DictReader(file))
    assert failed == [
        {"path": "chest-1.png", "reason": REASON},
        {"path": "chest-3.png", "reason": REASON},
    ]
    lines = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["chest-0", "chest-2", "chest-4"]
    assert "NaN" not in "".join(lines)
    assert sorted(path.name for path in (tmp_path / "out/overlays").iterdir()) == [
        "chest-0.png",
        "chest-2.png",
        "chest-4.png",
    ]


def test_one_file_alone(spoilt, tmp_path):
    config, point, _ = predictor.open_ensemble("tiny", 1)
    detector = Detector("tiny", predictor.start("openvino", config), point)
    assert detector.predict(tmp_path / "in/chest-0.png").image_score > 0
    for number in (1, 3):
        path = tmp_path / f"in/chest-{number}.png"
        with pytest.raises(EngineError) as raised:
            detector.predict(path)
        assert str(raised.value) == f"{path}: {REASON}"


def test_no_record_is_written_with_nan(tmp_path):
    """Whatever lets it come so far."""
    source = ImageFile(tmp_path / "a.png", "a", "a.png", "1-1")
    with ResumeLog(tmp_path / "out", {}) as journal:
        with pytest.raises(ValueError, match="not JSON compliant"):
            journal.append([ImageResult(source, Findings("a", (96, 128), float("nan")))])
        journal.append([ImageResult(source, Findings("a", (96, 128), 0.5))])
        assert [record["findings"]["image_score"] for record in journal.records()] == [0.5]


def test_a_journal_is_cut_off_where_it_holds_nan(tmp_path):
    """As earlier versions may have left it: the file is read again."""
    first = ImageFile(tmp_path / "a.png", "a", "a.png", "1-1")
    second = ImageFile(tmp_path / "b.png", "b", "b.png", "2-2")
    with suppress(StopError), ResumeLog(tmp_path / "out", {}) as journal:
        journal.append([ImageResult(one, Findings("x", (96, 128), 0.5)) for one in (first, second)])
        raise StopError
    path = tmp_path / "out/.journal.jsonl"
    head, one, two = path.read_text().splitlines(keepends=True)
    path.write_text(head + one + two.replace('"image_score": 0.5', '"image_score": NaN'))
    with ResumeLog(tmp_path / "out", {}) as journal:
        assert journal.done() == {"a.png": "1-1"}
