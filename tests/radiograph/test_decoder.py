"""The decoder in a process of its own: what ends it costs one file, and never the next."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from pydicom.uid import JPEGLosslessSV1

from lungbox.datasets.phantom import draw
from lungbox.radiograph import RadiographError, decoder, read
from tests import dicoms
from tests.conftest import ROOT

CHEST = draw(64, 2, np.random.default_rng(7)).pixels


@pytest.fixture(autouse=True)
def _own_decoder(monkeypatch):
    """A decoder that no other test has used."""
    monkeypatch.setattr(decoder, "_local", threading.local())


@pytest.fixture
def path(tmp_path):
    """A file that only the separate process decodes."""
    return dicoms.write(dicoms.dataset(CHEST), tmp_path / "chest.dcm", JPEGLosslessSV1)


@pytest.fixture
def process(path) -> subprocess.Popen:
    """This thread's decoder, which has decoded a file already and waits for the next."""
    assert np.array_equal(read(path).pixels, CHEST)
    return decoder._local.decoder._process


def test_one_process_decodes_file_after_file(path, process):
    assert np.array_equal(read(path).pixels, CHEST)
    assert decoder._local.decoder._process is process


def test_it_dies_between_two_files(path, process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert np.array_equal(read(path).pixels, CHEST)
    assert decoder._local.decoder._process is not process


def test_it_dies_over_a_file(path, process):
    # Stopped, so that the file is certainly under way when it is killed.
    os.kill(process.pid, signal.SIGSTOP)
    killer = threading.Timer(0.3, os.kill, (process.pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(RadiographError, match="its decoder breaks down"):
        read(path)
    killer.join()
    assert process.returncode == -signal.SIGKILL  # and is no zombie
    assert np.array_equal(read(path).pixels, CHEST)


@pytest.mark.parametrize(
    "answer",
    ["", "arr", "array", "array |u1 64", "array |u1 64 64\n", "array |u1 64 64\nhalf", "what?\n"],
)
def test_it_dies_in_the_middle_of_an_answer(path, process, monkeypatch, answer):
    program = f"import sys; sys.stdin.readline(); print({answer!r}, end='', flush=True)"
    broken = subprocess.Popen(
        [sys.executable, "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    monkeypatch.setattr(decoder._local.decoder, "_process", broken)
    with pytest.raises(RadiographError, match="its decoder breaks down"):
        read(path)
    assert broken.poll() is not None
    assert np.array_equal(read(path).pixels, CHEST)
    decoder._local.decoder._end()


def test_a_damaged_file_leaves_it_for_the_next(tmp_path, path):
    damaged = tmp_path / "damaged.dcm"
    dicoms.write(dicoms.dataset(CHEST), damaged, JPEGLosslessSV1)
    dicoms.damage_image(damaged, lambda image: image[: len(image) // 2])
    for _ in range(3):
        with pytest.raises(RadiographError, match="cut off"):
            read(damaged)
        assert np.array_equal(read(path).pixels, CHEST)


def test_each_thread_has_its_own(path):
    """Two threads that read at once never get each other's pixels."""
    darker = dicoms.write(dicoms.dataset(CHEST // 2), path.with_name("b.dcm"), JPEGLosslessSV1)
    wrong = []

    def read_often(file, expected):
        for _ in range(10):
            if not np.array_equal(read(file).pixels, expected):
                wrong.append(file)
        decoder._local.decoder._end()

    jobs = ((path, CHEST), (darker, CHEST // 2))
    threads = [threading.Thread(target=read_often, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_names_that_are_no_utf8(path):
    odd = path.rename(path.with_name(os.fsdecode(b"caf\xe9\n.dcm")))
    assert np.array_equal(read(odd).pixels, CHEST)


def test_nothing_is_imported_from_the_users_folder(path, tmp_path):
    """Folders called like modules are common beside DICOM files (`dl`), and scripts anywhere."""
    (tmp_path / "here/dl").mkdir(parents=True)
    (tmp_path / "here/pydicom.py").write_text("raise SystemExit('not this one')")
    program = (
        "import sys; sys.path.remove('')\n"
        "from pathlib import Path; from lungbox.radiograph import read\n"
        f"print(read(Path({str(path)!r})).pixels.shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "here",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "(64, 64)\n", done.stderr


def test_one_that_hangs_is_left(path, process, monkeypatch):
    monkeypatch.setattr(decoder, "_PATIENCE", 0.3)
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(RadiographError, match="its decoder breaks down"):
        read(path)
    assert process.returncode == -signal.SIGKILL
    monkeypatch.undo()
