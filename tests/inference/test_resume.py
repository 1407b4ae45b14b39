"""What a stopped run leaves, and when the next one may go on from it."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lungbox.errors import LungboxError
from lungbox.findings import Findings
from lungbox.inference.files import ImageFile
from lungbox.inference.predictor import ImageResult
from lungbox.inference.resume import BusyError, ResumeLog
from tests.conftest import ROOT

SETTINGS = {"members": [("0f" * 32, 1.0)], "engine": "openvino"}


class StopError(Exception):
    """What ends a run before it is done."""


def result(name: str, stamp: str = "1-1", reason: str = "") -> ImageResult:
    source = ImageFile(Path(name), name.removesuffix(".png"), name, stamp)
    if reason:
        return ImageResult(source, reason=reason)
    box = np.array([[1, 2, 30, 40]], np.float32)
    scores = np.array([0.5], np.float32)
    found = Findings(source.identity, (64, 64), 0.75, box, scores, ("lung opacity",) * 1, path=name)
    return ImageResult(source, found)


def stopped(folder: Path, *results: ImageResult) -> Path:
    """The journal of a run that ended after these outcomes."""
    with suppress(StopError), ResumeLog(folder, SETTINGS) as resume_log:
        resume_log.append(list(results))
        raise StopError
    return folder / ".journal.jsonl"


def test_a_stopped_run_leaves_its_outcomes_and_a_finished_one_nothing(tmp_path):
    stopped(tmp_path / "out", result("a.png"), result("b.png", "2-2", reason="it is empty"))
    with ResumeLog(tmp_path / "out", SETTINGS) as resume_log:
        assert resume_log.done() == {"a.png": "1-1", "b.png": "2-2"}
        assert not resume_log.discarded
        first, second = resume_log.records()
        assert first["findings"]["findings"][0]["box"] == [1, 2, 30, 40]
        assert second["reason"] == "it is empty"
        assert second["findings"] is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".journal.lock"]


@pytest.mark.parametrize(
    "tail",
    [
        b'{"path": "half a li',
        b'{"path": "c.png", "stamp": "1-1", "reason": "x", "findings": null}',  # but for its end
        b'{"path": "c.png", "stamp": "1-1"}\n',
        b'{"path": "c.png", "stamp": "1-1", "reason": ""}\n',
        b'["path", "stamp", "reason", "findings"]\n',
        b"17\n",
        b"\n",
        b"\0\0\0\0\0\0\0\0\n",
        b"caf\xe9\n",
    ],
)
def test_it_is_cut_off_at_its_first_damaged_line(tmp_path, tail):
    path = stopped(tmp_path, result("a.png"), result("b.png"))
    whole = path.read_bytes()
    behind = json.dumps({"path": "d.png", "stamp": "1-1", "reason": "x", "findings": None})
    path.write_bytes(whole + tail + (behind.encode() + b"\n" if tail.endswith(b"\n") else b""))
    with ResumeLog(tmp_path, SETTINGS) as resume_log:
        assert path.read_bytes() == whole
        resume_log.append([result("c.png", "3-3")])
        assert resume_log.done() == {"a.png": "1-1", "b.png": "1-1", "c.png": "3-3"}


@pytest.mark.parametrize(
    "first",
    [b"", b"\n", b"{}\n", b"[]\n", b"17\n", b'{"settings"', b"\xff\xfe\n", None],
    ids=["empty", "blank", "no settings", "list", "number", "half", "bytes", "without its end"],
)
def test_a_damaged_first_line_starts_anew(tmp_path, first):
    path = stopped(tmp_path)
    path.write_bytes(path.read_bytes().rstrip(b"\n") if first is None else first)
    with ResumeLog(tmp_path, SETTINGS) as resume_log:
        assert resume_log.done() == {}
        resume_log.append([result("a.png")])
        assert resume_log.done() == {"a.png": "1-1"}


@pytest.mark.parametrize(
    "other",
    [
        {**SETTINGS, "members": [("1f" * 32, 1.0)]},
        {**SETTINGS, "members": [("0f" * 32, 0.5)]},
        {**SETTINGS, "engine": "keras"},
        {"members": SETTINGS["members"]},
    ],
    ids=["weights", "share", "engine", "fewer"],
)
def test_other_settings_start_anew(tmp_path, other):
    stopped(tmp_path, result("a.png"))
    with ResumeLog(tmp_path, other) as resume_log:
        assert resume_log.discarded
        assert resume_log.done() == {}


def test_settings_are_the_same_in_any_order_and_after_json(tmp_path):
    stopped(tmp_path, result("a.png"))
    turned = dict(reversed(SETTINGS.items()))
    with ResumeLog(tmp_path, turned) as resume_log:
        assert list(resume_log.done()) == ["a.png"]


def test_of_a_file_that_changed_the_latest_record_counts(tmp_path):
    stopped(tmp_path, result("a.png", "1-1"), result("b.png"))
    sources = [result("a.png", "2-2").source, result("b.png").source]
    with ResumeLog(tmp_path, SETTINGS) as resume_log:
        assert resume_log.done()["a.png"] != sources[0].stamp
        resume_log.append([result("a.png", "2-2", reason="it is empty")])
        assert resume_log.done() == {"a.png": "2-2", "b.png": "1-1"}
        records = list(resume_log.in_order(sources))
        assert [record["path"] for record in records] == ["a.png", "b.png"]
        assert records[0]["reason"] == "it is empty"


def test_a_file_without_its_picture_is_read_again(tmp_path):
    """Which is then there, where whatever stood in its way has gone."""
    without = replace(result("b.png"), no_picture="out/overlays/b.png: No space left on device")
    stopped(tmp_path, result("a.png"), without)
    with ResumeLog(tmp_path, SETTINGS) as resume_log:
        assert resume_log.done() == {"a.png": "1-1"}
        resume_log.append([result("b.png")])
        assert resume_log.done() == {"a.png": "1-1", "b.png": "1-1"}
        sources = [result(name).source for name in ("a.png", "b.png")]
        assert [record["no_picture"] for record in resume_log.in_order(sources)] == ["", ""]


def test_records_come_in_the_order_of_the_sources(tmp_path):
    """Whatever the order they were written in, and without those of files that are gone."""
    written = [result(name) for name in ("c.png", "gone.png", "a.png", "b.png")]
    stopped(tmp_path, *written)
    sources = [result(name).source for name in ("a.png", "b.png", "c.png")]
    with ResumeLog(tmp_path, SETTINGS) as resume_log:
        assert [record["path"] for record in resume_log.in_order(sources)] == [
            "a.png",
            "b.png",
            "c.png",
        ]


def test_a_reason_may_hold_what_is_no_utf8(tmp_path):
    """The name of a file, in what a library says of it."""
    odd = os.fsdecode(b"cannot read caf\xe9.dcm")
    stopped(tmp_path, result("a.png", reason=odd))
    with ResumeLog(tmp_path, SETTINGS) as resume_log:
        (record,) = resume_log.records()
        assert record["reason"] == "cannot read caf\\udce9.dcm"


def test_two_runs_in_one_folder(tmp_path):
    with ResumeLog(tmp_path, SETTINGS) as first:
        first.append([result("a.png")])
        second = ResumeLog(tmp_path, {"other": "settings"})
        with pytest.raises(BusyError, match="another run is writing there; give another --output"):
            second.__enter__()
        # The first has lost nothing by it.
        first.append([result("b.png")])
        assert list(first.done()) == ["a.png", "b.png"]
        with ResumeLog(tmp_path / "elsewhere", SETTINGS) as elsewhere:
            assert elsewhere.done() == {}
    with ResumeLog(tmp_path, SETTINGS) as resume_log:
        assert resume_log.done() == {}
    assert issubclass(BusyError, LungboxError)


def test_another_process_is_kept_out_until_this_one_dies(tmp_path):
    program = (
        "import sys; from pathlib import Path; from lungbox.inference.resume import ResumeLog\n"
        "with ResumeLog(Path(sys.argv[1]), {}):\n"
        "    print('in', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        with pytest.raises(BusyError):
            ResumeLog(tmp_path, {}).__enter__()
        process.kill()
        process.wait()
        with ResumeLog(tmp_path, {}) as resume_log:  # a lock never outlives its process
            assert resume_log.done() == {}
            assert not resume_log.discarded


_ENTERING = """
import os, sys, time
from pathlib import Path
from lungbox.inference.resume import BusyError, ResumeLog
folder, inside = Path(sys.argv[1]), Path(sys.argv[2])
sys.stdin.readline()  # all begin together
entered = overlaps = 0
while entered < 100:
    try:
        with ResumeLog(folder, {}):
            entered += 1
            try:
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                overlaps += 1
            else:
                time.sleep(0.002)  # long enough for others to come
                inside.unlink()
    except BusyError:
        pass
print(overlaps)
"""


def test_runs_that_come_and_go_are_never_in_one_folder_together(tmp_path):
    """Each makes a file while it is inside, which must not be there yet."""
    command = [sys.executable, "-c", _ENTERING, str(tmp_path / "out"), str(tmp_path / "inside")]
    runs = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for run in runs:
        run.stdin.write("go\n")
        run.stdin.flush()
    assert [run.communicate(timeout=120)[0] for run in runs] == ["0\n"] * 4
