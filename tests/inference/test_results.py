"""Result files: whole or not at all, and nothing of anybody else's is lost to them."""

import csv
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungbox.common.tables import TableError, escape_formula, read_column, unescape_formula
from lungbox.errors import LungboxError
from lungbox.findings import Findings, WithheldBox
from lungbox.inference import results
from lungbox.inference.files import ImageFile
from lungbox.inference.predictor import ImageResult
from lungbox.inference.results import (
    OutputFolderError,
    RunSummary,
    check_output_folder,
    remove_old_pictures,
    save_members,
    write_results,
)
from lungbox.inference.resume import ResumeLog
from lungbox.submission import read_ids, read_submission

FILES = ("submission.csv", "images.csv", "predictions.jsonl", "failed.csv")


def source(name: str) -> ImageFile:
    return ImageFile(Path(name), name.split(".")[0], name, "1-1")


def found(name: str, boxes: int = 1, flag: str = "") -> ImageResult:
    box = np.array([[10, 20, 40, 60]] * boxes, np.float32).reshape(-1, 4)
    scores = np.full(boxes, 0.5, np.float32)
    file = source(name)
    size = (128, 256)
    return ImageResult(
        file,
        Findings(
            file.identity, size, 0.75, box, scores, ("lung opacity",) * boxes, path=name, flag=flag
        ),
    )


OUTCOMES = (
    found("a.png"),
    ImageResult(source("b.dcm"), reason='it says "x, y"'),
    found("c.dcm", boxes=0, flag="view LL"),
    found("d.png", boxes=2),
)


def write(
    folder: Path,
    results: tuple[ImageResult, ...] = OUTCOMES,
    of: tuple[ImageResult, ...] = OUTCOMES,
    **options,
) -> RunSummary:
    with ResumeLog(folder, {}) as resume_log:
        resume_log.append(list(results))
        return write_results(folder, resume_log, [item.source for item in of], **options)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_file_and_the_totals(tmp_path):
    assert write(tmp_path) == RunSummary(read=3, with_boxes=2, flagged=1, failed=1, boxes=3)
    written = sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".")
    assert written == sorted(FILES)
    assert (tmp_path / "submission.csv").read_text() == (
        "patientId,PredictionString\n"
        "a,0.5000 10.00 20.00 30.00 40.00\n"
        "c,\n"
        "d,0.5000 10.00 20.00 30.00 40.00 0.5000 10.00 20.00 30.00 40.00\n"
    )
    assert table(tmp_path / "failed.csv") == [{"path": "b.dcm", "reason": 'it says "x, y"'}]
    assert table(tmp_path / "images.csv")[1] == {
        "patientId": "c", "score": "0.7500", "boxes": "0", "width": "128", "height": "256",
        "path": "c.dcm", "flag": "view LL",
    }  # fmt: skip
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert [Findings.from_record(json.loads(line)).identity for line in lines] == ["a", "c", "d"]


def test_withheld_boxes_are_in_predictions_jsonl_alone(tmp_path):
    """In a run that was stopped after them, too."""
    plain = found("c.dcm", boxes=0)
    box = WithheldBox("lung opacity", 0.625, (10.0, 20.0, 40.0, 60.5))
    held = replace(plain, findings=replace(plain.findings, withheld=(box,) * 2, gate=0.8))
    with suppress(KeyError):
        write(tmp_path, (OUTCOMES[0], held), OUTCOMES)
    outcomes = (OUTCOMES[0], held, OUTCOMES[3])
    with ResumeLog(tmp_path, {}) as resume_log:
        assert resume_log.done().keys() == {"a.png", "c.dcm"}
        resume_log.append([OUTCOMES[3]])
        summary = write_results(tmp_path, resume_log, [item.source for item in outcomes])
    assert summary == RunSummary(read=3, with_boxes=2, flagged=0, failed=0, boxes=3, withheld=1)
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [len(record["findings"]) for record in records] == [1, 0, 2]
    assert records[1]["withheld"][1] == {
        "label": "lung opacity", "score": 0.625, "box": [10, 20, 40, 60.5], "withheld_by": "gate",
    }  # fmt: skip
    assert [row["boxes"] for row in table(tmp_path / "images.csv")] == ["1", "0", "2"]
    assert table(tmp_path / "submission.csv")[1]["PredictionString"] == ""


def test_boxes_in_a_square_and_given_rows(tmp_path):
    write(tmp_path, ids=["d", "absent", "b", "a"], space=1024)
    rows = table(tmp_path / "submission.csv")
    assert [row["patientId"] for row in rows] == ["d", "absent", "b", "a"]
    assert rows[1]["PredictionString"] == rows[2]["PredictionString"] == ""
    # 128 x 256 becomes 1024 x 1024.
    assert rows[3]["PredictionString"] == "0.5000 80.00 80.00 240.00 160.00"
    assert [row["patientId"] for row in table(tmp_path / "images.csv")] == ["a", "c", "d"]


def test_whatever_goes_wrong_leaves_every_older_file_as_it_was(tmp_path):
    for name in FILES:
        (tmp_path / name).write_text(f"old {name}")
    # An outcome is missing, which shows only when half of the rows are written.
    with pytest.raises(KeyError):
        write(tmp_path, OUTCOMES[:2])
    for name in FILES:
        assert (tmp_path / name).read_text() == f"old {name}"
    assert not list(tmp_path.glob(".new-*"))


def test_older_files_are_replaced_and_strangers_are_not_touched(tmp_path):
    for name in (*FILES, "notes.txt"):
        (tmp_path / name).write_text("old\n" * 1000)
    (tmp_path / "overlays").mkdir()
    (tmp_path / "overlays/mine.png").write_bytes(b"x")
    write(tmp_path)
    assert len(table(tmp_path / "submission.csv")) == 3
    assert (tmp_path / "notes.txt").read_text() == "old\n" * 1000
    assert (tmp_path / "overlays/mine.png").read_bytes() == b"x"


def test_results_are_as_readable_as_other_files(tmp_path):
    write(tmp_path)
    (tmp_path / "other").touch()
    for name in FILES:
        assert (tmp_path / name).stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_place_that_is_free_or_has_older_results(tmp_path):
    check_output_folder(tmp_path / "not/yet/there", tmp_path / "in")
    check_output_folder(tmp_path, tmp_path / "in")
    write(tmp_path)
    check_output_folder(tmp_path, tmp_path / "in")


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputFolderError, match="out: is a file, and results need a folder"):
        check_output_folder(tmp_path / "out", tmp_path / "in")
    assert (tmp_path / "out").read_text() == "mine"
    assert issubclass(OutputFolderError, LungboxError)


@pytest.mark.parametrize("name", [*FILES, "run.json"])
def test_a_folder_where_a_file_should_be(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(OutputFolderError, match=f"{name}: is a folder where a result file belongs"):
        check_output_folder(tmp_path, tmp_path / "in")


def test_what_the_members_say_is_written_whole(tmp_path, monkeypatch):
    mask = np.zeros((4, 6, 2), np.float32)
    mask[..., 1] = np.linspace(0, 1, 24).reshape(4, 6)
    path = tmp_path / "members/a.npz"
    save_members(path, {"one": mask, "two": 1 - mask})
    with np.load(path) as kept:
        assert sorted(kept) == ["one", "two"]
        assert kept["one"].dtype == np.uint8
        assert np.abs(kept["one"] / 255 - mask[..., 1]).max() <= 0.5 / 255 + 1e-6
    before = path.read_bytes()

    def fail(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results.np, "savez_compressed", fail)
    with pytest.raises(OSError, match="No space left"):
        save_members(path, {"one": mask})
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("images", ["out", "out/overlays", "out/members/deep"])
def test_results_never_go_where_radiographs_are(tmp_path, images):
    (tmp_path / images).mkdir(parents=True)
    with pytest.raises(OutputFolderError, match="a folder apart from the radiographs"):
        check_output_folder(tmp_path / "out", tmp_path / images)
    check_output_folder(tmp_path / images / "predictions", tmp_path / images)


def test_only_pictures_of_an_earlier_run_are_cleared(tmp_path):
    drawn = ["overlays/a.png", "overlays/deep/b.png", "members/a.png", "members/a.npz"]
    others = ["overlays/mine.png", "members/y.dcm", "elsewhere.png"]
    for name in (*drawn, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    table = "patientId,score\na,1\n../elsewhere,1\n"
    (tmp_path / "images.csv").write_text(table)
    remove_old_pictures(tmp_path, ["deep/b"])
    assert (tmp_path / "overlays/a.png").is_file()  # without run.json no run was ended here
    (tmp_path / "run.json").write_text("{}")
    remove_old_pictures(tmp_path, [])
    assert not [name for name in drawn if (tmp_path / name).exists()]
    assert all((tmp_path / name).is_file() for name in others)
    assert not (tmp_path / "overlays/deep").exists()


SAVED = {
    "as it was": lambda text: text.encode(),
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "Windows": lambda text: text.replace("\n", "\r\n").encode("cp1252"),
    "semicolons": lambda text: text.replace(",", ";").replace("\n", "\r\n").encode("cp1252"),
    "Unicode text": lambda text: text.replace(",", "\t").replace("\n", "\r\n").encode("utf-16"),
}


@pytest.mark.parametrize("how", SAVED)
def test_images_csv_that_a_spreadsheet_has_saved(tmp_path, how):
    results = (found("Müller.png"), found("=1+1.png", flag="body part FÜSSE"), found("b.png"))
    write(tmp_path, results, results)
    drawn = [tmp_path / "overlays" / f"{result.source.identity}.png" for result in results]
    for path in (*drawn, tmp_path / "overlays/mine.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "run.json").write_text("{}")
    table_path = tmp_path / "images.csv"
    table_path.write_bytes(SAVED[how](table_path.read_text("utf-8")))
    assert remove_old_pictures(tmp_path, []) == ""
    assert [path.name for path in (tmp_path / "overlays").iterdir()] == ["mine.png"]


def test_an_images_csv_with_an_enormous_cell(tmp_path):
    """Beyond what Python's csv reads by itself, and names that no file can have."""
    names = ["a", "x" * 300, "nul\0", "b"]
    rows = [f"{name},{'f' * 200_000}\n" for name in names]
    (tmp_path / "images.csv").write_text("patientId,flag\n" + "".join(rows))
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "overlays").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"overlays/{name}.png").touch()
    usual = csv.field_size_limit()
    assert remove_old_pictures(tmp_path, []) == ""
    assert csv.field_size_limit() == usual
    assert not (tmp_path / "overlays").exists()


@pytest.mark.parametrize("content", [b"\xff\xfea", b"name,score\na,1\n", bytes(range(256)) * 9])
def test_an_images_csv_that_cannot_be_read_is_set_aside(tmp_path, content):
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "images.csv.unreadable").write_text("of an even earlier run")
    (tmp_path / "images.csv").write_bytes(content)
    (tmp_path / "overlays").mkdir()
    (tmp_path / "overlays/a.png").touch()
    said = remove_old_pictures(tmp_path, [])
    assert said.startswith(f"{tmp_path / 'images.csv'}: ")
    assert said.endswith(
        "; renamed to images.csv.unreadable-2. Pictures of that run are not deleted."
    )
    assert "\n" not in said
    assert (tmp_path / "images.csv.unreadable-2").read_bytes() == content
    assert not (tmp_path / "images.csv").exists()
    assert (tmp_path / "images.csv.unreadable").read_text() == "of an even earlier run"
    assert (tmp_path / "overlays/a.png").exists()
    write(tmp_path)
    assert len(table(tmp_path / "images.csv")) == 3


@given(st.text(st.sampled_from("'=+-@\t\rab 1")))
def test_cells_for_spreadsheets_are_read_back_equal(text):
    written = escape_formula(text)
    assert unescape_formula(str(written)) == text
    assert not str(written).startswith(("=", "+", "-", "@", "\t", "\r"))


def test_names_like_formulas_are_harmless_in_every_table(tmp_path):
    names = ["=cmd|'calc'!A0.png", "+1.png", "-1.png", "@a.png", "'=b.png", "'c.png"]
    results = (*(found(name) for name in names), ImageResult(source("=f.dcm"), reason="-x"))
    write(tmp_path, results, results)
    for file in ("submission.csv", "images.csv", "failed.csv"):
        with (tmp_path / file).open(newline="") as written:
            cells = [cell for row in csv.reader(written) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    identities = [Path(name).name.split(".")[0] for name in names]
    assert read_column(tmp_path / "images.csv", "patientId") == identities
    assert read_column(tmp_path / "images.csv", "path") == names
    assert read_column(tmp_path / "failed.csv", "path") == ["=f.dcm"]
    assert read_ids(tmp_path / "submission.csv") == identities
    assert list(read_submission(tmp_path / "submission.csv")) == identities
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == identities
    with pytest.raises(TableError, match="has no column boxes"):
        read_column(tmp_path / "failed.csv", "boxes")


def test_reasons_are_one_line_of_bounded_length(tmp_path):
    said = "OpenCV(5.0)\n> Overload resolution failed:\r\n\t- " + "words " * 1000
    results = (*OUTCOMES[:1], ImageResult(source("b.dcm"), reason=said), *OUTCOMES[2:])
    write(tmp_path, results)
    assert len((tmp_path / "failed.csv").read_text().splitlines()) == 2
    ((reason,),) = [[row["reason"]] for row in table(tmp_path / "failed.csv")]
    assert reason.startswith("OpenCV(5.0) > Overload resolution failed: - words words")
    assert len(reason) <= 500
