"""`lungbox predict` as a user runs it: a folder, and what is left behind.

Only what needs a process of its own has one: the scripts, signals, and limits on files.
"""

import csv
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

import lungbox
from lungbox.cli import main
from lungbox.datasets.phantom import draw
from lungbox.inference.resume import ResumeLog
from lungbox.radiograph import frontal, read
from lungbox.submission import read_submission
from tests import dicoms
from tests.conftest import ROOT
from tests.tiny import enter_tiny

pytestmark = pytest.mark.usefixtures("small_networks")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A manifest with a tiny ensemble that finds boxes nearly everywhere."""
    folder = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    patch.setenv("LUNGBOX_HOME", str(folder))
    enter_tiny(folder)
    enter_tiny(folder, "slow", network="unet_lite0")
    for name in ("tiny", "slow"):
        lungbox.load(name)  # Processes read the converted networks, and need not know how to build.
    yield folder
    patch.undo()


def predict(*arguments: object, ensemble: str = "tiny") -> subprocess.CompletedProcess:
    """Run the command in this process."""
    command = ["predict", *map(str, arguments), "--ensemble", ensemble]
    printed, said = io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(said), pytest.raises(SystemExit) as ended:
        main.main(command)
    code = int(ended.value.code or 0)
    return subprocess.CompletedProcess(command, code, printed.getvalue(), said.getvalue())


def script(*arguments: object, ensemble: str = "tiny") -> list[str]:
    """The command of a process of its own."""
    return [sys.executable, "inference.py", *map(str, arguments), "--ensemble", ensemble]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def chest(number: int, size: int = 96) -> np.ndarray:
    return draw(size, number % 3, np.random.default_rng(number)).pixels


def fill(folder: Path, count: int = 5, size: int = 96) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(chest(number, size)).save(folder / f"chest-{number:02d}.png")


def test_everything_a_run_leaves(home, tmp_path):
    fill(tmp_path / "in")
    command = script(tmp_path / "in", "--output", tmp_path / "out", "--overlays")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "5 radiographs read" in done.stderr
    assert "Not a medical device" in done.stderr
    assert done.stdout == ""
    names = [f"chest-{number:02d}" for number in range(5)]
    assert [row["patientId"] for row in table(tmp_path / "out/submission.csv")] == names
    images = table(tmp_path / "out/images.csv")
    assert list(images[0]) == ["patientId", "score", "boxes", "width", "height", "path", "flag"]
    assert all(row["width"] == row["height"] == "96" for row in images)
    submitted = read_submission(tmp_path / "out/submission.csv")
    assert sum(len(prediction.boxes) for prediction in submitted.values()) > 0
    for row in images:
        assert int(row["boxes"]) == len(submitted[row["patientId"]].boxes)
        assert 0 <= float(row["score"]) <= 1
    lines = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == names
    assert table(tmp_path / "out/failed.csv") == []
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["ensemble"] == "tiny"
    assert run["engine"] == "openvino"
    assert len(run["members"][0]["sha256"]) == 64
    flagged = sum(bool(row["flag"]) for row in images)  # phantoms are no radiographs
    boxes = [int(row["boxes"]) for row in images]
    assert run["totals"] == {"read": 5, "with_boxes": sum(map(bool, boxes)), "boxes": sum(boxes),
                             "withheld": 0, "flagged": flagged, "failed": 0,
                             "without_picture": 0}  # fmt: skip
    for name in names:
        with Image.open(tmp_path / f"out/overlays/{name}.png") as picture:
            assert picture.size[0] == 384  # small radiographs are enlarged for the caption
    assert [path.name for path in (tmp_path / "out").glob(".*")] == [".journal.lock"]


def test_boxes_do_not_depend_on_format_place_order_or_batch(home, tmp_path):
    """The same pixels as PNG and as DICOM, in nested folders under all kinds of names."""
    plain, mixed = tmp_path / "plain", tmp_path / "mixed"
    plain.mkdir()
    places = ["a.PNG", "deep/er/b.DCM", "c", "deep/d.dicom", "deep/e.jpg", "1.2.840.10008.5"]
    for number, place in enumerate(places):
        pixels = chest(number)
        Image.fromarray(pixels).save(plain / f"{number}.png")
        target = mixed / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if number == 0:
            Image.fromarray(pixels).save(target)
            continue
        syntax = (RLELossless, JPEG2000Lossless)[number % 2]
        dicoms.write(dicoms.dataset(pixels), target, syntax)
    assert predict(plain, "--output", tmp_path / "1", "--batch-size", 1).returncode == 0
    assert predict(mixed, "--output", tmp_path / "2", "--batch-size", 4).returncode == 0
    expected = {
        row["patientId"]: row["PredictionString"] for row in table(tmp_path / "1/submission.csv")
    }
    found = {
        row["patientId"]: row["PredictionString"] for row in table(tmp_path / "2/submission.csv")
    }
    assert set(found) == {"a", "b", "c", "d", "e", "1.2.840.10008.5"}
    names = ["a", "b", "c", "d", "e", "1.2.840.10008.5"]
    for number, name in enumerate(names):
        assert found[name] == expected[str(number)]
    assert any(expected.values())


def spoil(folder: Path) -> list[str]:
    """Fifteen kinds of files that are no readable radiograph."""
    folder.mkdir(parents=True)
    good = dicoms.write(dicoms.dataset(chest(1)), folder / "x").read_bytes()
    (folder / "x").unlink()
    jpeg = dicoms.write(dicoms.dataset(chest(1)), folder / "x", JPEGBaseline8Bit).read_bytes()
    (folder / "x").unlink()
    Image.fromarray(chest(2)).save(folder / "p.png")
    png = (folder / "p.png").read_bytes()
    (folder / "p.png").unlink()
    Image.fromarray(chest(2)).save(folder / "q.jpg")
    jpg = (folder / "q.jpg").read_bytes()
    (folder / "q.jpg").unlink()
    contents = {
        "01-empty.dcm": b"",
        "02-cut-header.dcm": good[:200],
        "03-cut-pixels.dcm": good[: len(good) // 2],
        "04-cut-jpeg.dcm": jpeg[: len(jpeg) - 600],
        "05-cut.png": png[: len(png) // 2],
        "06-cut.jpg": jpg[: len(jpg) // 3],
        "07-text.txt": b"not an image\n",
        "08-random.dcm": random.Random(1).randbytes(5000),
        "09-random-behind-magic.dcm": bytes(128) + b"DICM" + random.Random(2).randbytes(5000),
        "10-html.png": b"<html>Quota exceeded</html>",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    report = dicoms.dataset(chest(1))
    del report.PixelData
    dicoms.write(report, folder / "11-no-image.dcm")
    film = dicoms.dataset(chest(1))
    film.NumberOfFrames, film.PixelData = 3, film.PixelData * 3
    dicoms.write(film, folder / "12-film.dcm")
    huge = dicoms.dataset(chest(1))
    huge.Rows, huge.Columns = 60000, 60000
    dicoms.write(huge, folder / "13-huge.dcm")
    Image.new("1", (14000, 14000)).save(folder / "14-bomb.png")
    Image.fromarray(chest(1)).save(folder / "15-picture.tiff")
    return sorted(path.name for path in folder.iterdir())


def test_fifteen_kinds_of_bad_files_among_twenty_good(home, tmp_path):
    fill(tmp_path / "in/good", count=20)
    bad = spoil(tmp_path / "in/bad")
    assert len(bad) == 15
    done = predict(tmp_path / "in", "--output", tmp_path / "out")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "20 radiographs read" in done.stderr
    assert "15 failed" in done.stderr
    assert len(table(tmp_path / "out/submission.csv")) == 20
    failed = table(tmp_path / "out/failed.csv")
    assert [Path(row["path"]).name for row in failed] == bad
    for row in failed:
        assert 15 < len(row["reason"]) < 400, row
        assert "\n" not in row["reason"]
        assert "Error:" not in row["reason"], row  # no exception's own name


def test_ids_decide_the_rows(home, tmp_path):
    fill(tmp_path / "in", count=3)
    (tmp_path / "in/chest-01.png").write_bytes(b"broken")
    (tmp_path / "sample.csv").write_text(
        "patientId,PredictionString\nchest-02,\nabsent,\nchest-01,\nchest-00,\n"
    )
    done = predict(
        tmp_path / "in", "--output", tmp_path / "out", "--ids", tmp_path / "sample.csv",
        "--submission-size", 1024,
    )  # fmt: skip
    assert done.returncode == 3
    rows = table(tmp_path / "out/submission.csv")
    assert [row["patientId"] for row in rows] == ["chest-02", "absent", "chest-01", "chest-00"]
    assert rows[1]["PredictionString"] == rows[2]["PredictionString"] == ""
    # In the challenge's space, while the findings stay in pixels of the file.
    submitted = read_submission(tmp_path / "out/submission.csv")["chest-02"].boxes
    line = json.loads((tmp_path / "out/predictions.jsonl").read_text().splitlines()[1])
    expected = np.array([item["box"] for item in line["findings"]]) * 1024 / 96
    assert np.allclose(submitted, expected, atol=0.02)


def test_keras_and_openvino_give_the_same_boxes(home, tmp_path):
    fill(tmp_path / "in", count=4)
    strings = []
    for engine in ("keras", "openvino"):
        out = tmp_path / engine
        assert predict(tmp_path / "in", "--output", out, "--engine", engine).returncode == 0
        strings.append(read_submission(out / "submission.csv"))
    assert strings[0].keys() == strings[1].keys()
    for name, one in strings[0].items():
        assert np.allclose(one.boxes, strings[1][name].boxes, atol=0.02)
        assert np.allclose(one.scores, strings[1][name].scores, atol=2e-4)


def test_a_stopped_run_continues(home, tmp_path):
    fill(tmp_path / "in", count=160, size=64)
    arguments = [tmp_path / "in", "--output", tmp_path / "out", "--batch-size", 1]
    command = script(*arguments, ensemble="slow")
    journal = tmp_path / "out/.journal.jsonl"
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    while process.poll() is None and not (journal.exists() and journal.stat().st_size > 4000):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "out/submission.csv").exists()
    finished = mark(journal)
    assert 0 < finished < 160
    with journal.open("a") as file:
        file.write('{"path": "half a li')
    # A file that has changed since is read again.
    Image.fromarray(chest(7, 80)).save(tmp_path / "in/chest-00.png")
    done = predict(*arguments, ensemble="slow")
    assert done.returncode == 0, done.stderr
    # All that were finished but the one that has changed.
    assert f"Continuing: {finished - 1} of 160 are done." in done.stderr
    images = table(tmp_path / "out/images.csv")
    assert [row["patientId"] for row in images] == sorted(f"chest-{n:02d}" for n in range(160))
    assert images[0]["patientId"] == "chest-00"
    assert images[0]["width"] == "80"
    # What stood in the journal was taken from there and not predicted again.
    assert sum(row["flag"].endswith(MARK) for row in images) == finished - 1
    arguments[2] = tmp_path / "again"
    undisturbed = predict(*arguments, ensemble="slow")
    assert undisturbed.returncode == 0
    for name in ("submission.csv", "images.csv", "predictions.jsonl"):
        text = (tmp_path / "out" / name).read_text().replace(MARK, "")
        assert text == (tmp_path / "again" / name).read_text()


def test_a_stopped_run_starts_anew_with_another_frontal_check(home, tmp_path, monkeypatch):
    fill(tmp_path / "in", count=2)
    settings = []
    real = ResumeLog.__init__

    def noted(log, folder, given):
        settings.append(given)
        real(log, folder, given)

    monkeypatch.setattr(ResumeLog, "__init__", noted)
    for fingerprint in (frontal.fingerprint(), "another"):
        monkeypatch.setattr(frontal, "fingerprint", lambda value=fingerprint: value)
        assert predict(tmp_path / "in", "--output", tmp_path / "out").returncode == 0
    first, second = settings
    assert {key for key in first if first[key] != second[key]} == {"frontal_check"}
    digest = hashlib.sha256((ROOT / "checkpoints/frontal.safetensors").read_bytes()).hexdigest()
    assert (first["frontal_check"], second["frontal_check"]) == (digest, "another")


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_told_to_stop(home, tmp_path, sent, code):
    """It says how to go on, and nothing of it is left running or half written."""
    fill(tmp_path / "in", count=100, size=64)
    arguments = [tmp_path / "in", "--output", tmp_path / "out", "--batch-size", 1, "--overlays"]
    command = script(*arguments, ensemble="slow")
    journal = tmp_path / "out/.journal.jsonl"
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (journal.exists() and journal.stat().st_size > 4000):
            time.sleep(0.005)
        process.send_signal(sent)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert said.endswith("Stopped; the same command continues where it was.\n")
    assert "Traceback" not in said
    assert not list((tmp_path / "out").rglob(".new-*"))
    finished = mark(journal)
    assert 0 < finished < 100


MARK = " from the journal"


def mark(journal: Path) -> int:
    """Mark the flag of every whole record of a stopped run's journal; how many there are."""
    settings, *lines = journal.read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    for record in records:
        record["findings"]["flag"] += MARK
    journal.write_text(settings + "".join(json.dumps(record) + "\n" for record in records))
    return len(records)


def test_radiographs_are_never_among_results(home, tmp_path):
    fill(tmp_path / "in/overlays", count=1)
    for output in (tmp_path / "in", tmp_path / "in/overlays"):
        done = predict(tmp_path / "in/overlays", "--output", output)
        assert done.returncode == 2
        assert "a folder apart from the radiographs" in done.stderr
    assert (tmp_path / "in/overlays/chest-00.png").is_file()


def test_pictures_of_other_results_are_taken_away_and_nobody_elses(home, tmp_path):
    fill(tmp_path / "in", count=2)
    arguments = [tmp_path / "in", "--output", tmp_path / "out"]
    pictures = tmp_path / "out/overlays"
    pictures.mkdir(parents=True)
    (pictures / "mine.png").write_bytes(b"x")
    assert predict(*arguments, "--overlays").returncode == 0
    names = sorted(path.name for path in pictures.iterdir())
    assert names == ["chest-00.png", "chest-01.png", "mine.png"]
    (tmp_path / "in/chest-01.png").unlink()
    assert predict(*arguments).returncode == 0
    assert [path.name for path in pictures.iterdir()] == ["mine.png"]


def test_a_named_pipe_and_an_earlier_table_that_cannot_be_read(home, tmp_path):
    fill(tmp_path / "in", 2)
    os.mkfifo(tmp_path / "in/pipe.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/run.json").write_text("{}")
    (tmp_path / "out/images.csv").write_bytes(b"another;table\r\n\xfc;1\r\n")
    done = predict(tmp_path / "in", "--output", tmp_path / "out")
    assert done.returncode == 3, done.stderr
    said = " ".join(done.stderr.split())
    assert "images.csv: has no column patientId; renamed to images.csv.unreadable." in said
    (failed,) = table(tmp_path / "out/failed.csv")
    assert failed["path"] == "pipe.png"
    assert failed["reason"].startswith("it is a named pipe (FIFO)")
    assert len(table(tmp_path / "out/images.csv")) == 2
    assert (tmp_path / "out/images.csv.unreadable").read_bytes().startswith(b"another;table")


@pytest.mark.parametrize("place", [".", "submission.csv"])
def test_something_else_stands_where_results_go(home, tmp_path, place):
    fill(tmp_path / "in", count=1)
    if place == ".":
        (tmp_path / "out").write_text("mine")
    else:
        (tmp_path / "out" / place).mkdir(parents=True)
    done = predict(tmp_path / "in", "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "give another --output" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    if place == ".":
        assert (tmp_path / "out").read_text() == "mine"
    else:
        assert [path.name for path in (tmp_path / "out").iterdir()] == [place]


def limited(bytes_a_file: int, *arguments: object) -> subprocess.CompletedProcess:
    """`predict`, where no file can become larger: as on a full disk, a write to it fails."""
    program = (
        "import resource, sys; from lungbox.cli.main import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_a_file}, {bytes_a_file}))\n"
        "main(sys.argv[1:])"
    )
    asked = ["predict", *map(str, arguments), "--ensemble", "slow"]
    command = [sys.executable, "-c", program, *asked]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_pictures_that_cannot_be_written(home, tmp_path):
    """The results are there, the exit code says that not all is, and each picture is named."""
    fill(tmp_path / "in", count=3)
    arguments = [tmp_path / "in", "--output", tmp_path / "out", "--overlays", "--batch-size", 1]
    assert predict(*arguments, ensemble="slow").returncode == 0
    sizes = [path.stat().st_size for path in (tmp_path / "out/overlays").iterdir()]
    done = limited(min(sizes) - 1, *arguments)
    assert done.returncode == 3
    for number in range(3):
        picture = tmp_path / f"out/overlays/chest-{number:02d}.png"
        assert f"No picture: {picture}: File too large\n" in done.stderr
    assert "Pictures of 3 could not be written" in done.stderr
    assert list((tmp_path / "out/overlays").iterdir()) == []
    assert len(table(tmp_path / "out/submission.csv")) == 3
    assert json.loads((tmp_path / "out/run.json").read_text())["totals"]["without_picture"] == 3


def test_results_that_cannot_be_written(home, tmp_path):
    fill(tmp_path / "in", count=1)
    arguments = [tmp_path / "in", "--output", tmp_path / "out", "--batch-size", 1]
    assert predict(*arguments, ensemble="slow").returncode == 0
    before = (tmp_path / "out/predictions.jsonl").read_bytes()
    # Larger than all others; its numbers of seconds have more or fewer digits in each run.
    too_small = (tmp_path / "out/run.json").stat().st_size - 40
    for size, name in ((10, ".journal.jsonl"), (too_small, "run.json")):
        done = limited(size, *arguments)
        assert done.returncode == 2
        assert done.stderr == f"lungbox: {tmp_path / 'out' / name}: File too large\n"
    assert (tmp_path / "out/predictions.jsonl").read_bytes() == before
    assert not list((tmp_path / "out").glob(".new-*"))


def test_files_of_one_name(home, tmp_path):
    fill(tmp_path / "in/one", count=1)
    fill(tmp_path / "in/two", count=1)
    done = predict(tmp_path / "in", "--output", tmp_path / "out", "--overlays")
    assert done.returncode == 0
    assert "Some files share a name (chest-00 for instance, 1 in all)" in done.stderr
    rows = table(tmp_path / "out/submission.csv")
    assert [row["patientId"] for row in rows] == ["one/chest-00.png", "two/chest-00.png"]
    assert (tmp_path / "out/overlays/one/chest-00.png.png").is_file()


def test_flagged_files_are_read(home, tmp_path):
    (tmp_path / "in").mkdir()
    ds = dicoms.dataset(chest(1))
    ds.ViewPosition = "LL"
    secrets = [
        "Anna-4711",
        "Acc-0815",
        "Study-12",
        str(ds.StudyInstanceUID),
        str(ds.SOPInstanceUID),
    ]
    ds.PatientID, ds.AccessionNumber, ds.StudyID = secrets[:3]
    dicoms.write(ds, tmp_path / "in/lateral.dcm")
    done = predict(tmp_path / "in", "--output", tmp_path / "out")
    assert done.returncode == 0
    written = [path.read_text() for path in (tmp_path / "out").glob("*.*")]
    assert any('"flag": "view LL"' in text for text in written)
    assert not [secret for secret in secrets if secret in "".join(written) + done.stderr]
    assert "may not be frontal chest radiographs" in done.stderr
    assert table(tmp_path / "out/images.csv")[0]["flag"] == "view LL"


def test_what_does_not_look_like_a_radiograph_is_flagged_and_read(home, tmp_path, examples):
    (tmp_path / "in").mkdir()
    radiograph = read(next(examples.glob("*.png"))).pixels
    noise = np.random.default_rng(0).integers(0, 256, (200, 300), np.uint8)
    pictures = {"chest": radiograph, "noise": noise, "turned": np.rot90(radiograph)}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / f"in/{name}.png")
    ds = dicoms.dataset(noise)
    ds.ViewPosition = "LL"
    dicoms.write(ds, tmp_path / "in/lateral.dcm")
    done = predict(tmp_path / "in", "--output", tmp_path / "out", "--overlays")
    assert done.returncode == 0, done.stderr
    flags = {
        "chest": "",
        "lateral": "view LL",  # a header says more
        "noise": "does not look like a frontal chest radiograph",
        "turned": "looks rotated by 90 degrees",
    }
    rows = table(tmp_path / "out/images.csv")
    assert {row["patientId"]: row["flag"] for row in rows} == flags
    lines = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    assert {item["id"]: item["flag"] for item in map(json.loads, lines)} == flags
    said = " ".join(done.stderr.split())
    assert "3 may not be frontal chest radiographs, or are rotated or inverted" in said
    submitted = read_submission(tmp_path / "out/submission.csv")
    assert all(len(submitted[row["patientId"]].boxes) == int(row["boxes"]) for row in rows)
    assert int(rows[2]["boxes"]) > 0  # boxes are kept
    assert lungbox.load("tiny").predict(tmp_path / "in/noise.png").flag == flags["noise"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "no such folder"),
        (["."], "holds no files"),
        ([".", "--ids", "none.csv"], "cannot be opened"),
        ([".", "--batch-size", "0"], "batch-size"),
    ],
)
def test_wrong_use(home, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    done = predict(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_ensemble(home, tmp_path):
    fill(tmp_path / "in", count=1)
    done = predict(tmp_path / "in", ensemble="tinny")
    assert done.returncode == 2
    assert "no ensemble is called tinny; did you mean tiny?" in done.stderr


def test_three_lines_of_python(home, tmp_path):
    fill(tmp_path / "in", count=1)
    detector = lungbox.load("tiny")
    findings = detector.predict(tmp_path / "in/chest-00.png")
    assert findings.identity == "chest-00"
    assert findings.size == (96, 96)
