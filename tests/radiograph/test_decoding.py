"""The decoder in a process of its own: what ends it costs one file, and never the next."""

import io
import multiprocessing
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from lungbox.constants import DECODING_BYTES_AT_ONCE
from lungbox.datasets.phantom import draw
from lungbox.radiograph import RadiographError, read
from lungbox.radiograph.codecs import client
from lungbox.radiograph.limits import PIXEL_BUDGET
from tests import dicoms
from tests.conftest import ROOT
from tests.radiograph.test_damaged import complaint_or_pixels

CHEST = draw(64, 2, np.random.default_rng(7)).pixels


@pytest.fixture(autouse=True)
def _own_decoder(monkeypatch):
    """A decoder that no other test has used."""
    monkeypatch.setattr(client, "_local", threading.local())


@pytest.fixture
def path(tmp_path):
    """A file that only the separate process decodes."""
    return dicoms.write(dicoms.dataset(CHEST), tmp_path / "chest.dcm", JPEGLosslessSV1)


@pytest.fixture
def process(path) -> subprocess.Popen:
    """This thread's decoder, which has decoded a file already and waits for the next."""
    assert np.array_equal(read(path).pixels, CHEST)
    return client._local.decoder._process


def test_one_process_decodes_file_after_file(path, process):
    assert np.array_equal(read(path).pixels, CHEST)
    assert client._local.decoder._process is process


def test_it_dies_between_two_files(path, process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert np.array_equal(read(path).pixels, CHEST)
    assert client._local.decoder._process is not process


def test_a_file_whose_decoder_is_killed_is_read_all_the_same(path, process):
    # Stopped, so that the file is certainly under way when it is killed.
    os.kill(process.pid, signal.SIGSTOP)
    killer = threading.Timer(0.3, os.kill, (process.pid, signal.SIGKILL))
    killer.start()
    assert np.array_equal(read(path).pixels, CHEST)
    killer.join()
    assert process.returncode == -signal.SIGKILL  # and is no zombie


def test_one_that_dies_over_a_file_twice(path, process, monkeypatch):
    attempts = []
    monkeypatch.setattr(client, "_start", lambda: attempts.append(1) or _answering(b""))
    process.kill()
    process.wait()
    with pytest.raises(RadiographError, match="its decoder ended twice"):
        read(path)
    assert len(attempts) == 2
    monkeypatch.undo()
    assert np.array_equal(read(path).pixels, CHEST)


SHAPE, BLACK = b"|u1 64 64", bytes(64 * 64)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"2 arr",
        b"2 array",
        b"2 array |u1 64",
        b"2 array what 64 64\n",
        b"2 array " + SHAPE + b"\n",
        b"2 array " + SHAPE + b"\nhalf",
        b"what?\n",
        # Whole, but not an answer to the second question.
        b"1 array " + SHAPE + b"\n" + BLACK,
        b"3 array " + SHAPE + b"\n" + BLACK,
        b"array " + SHAPE + b"\n" + BLACK,
        b"1 error of the file before\n",
    ],
)
def test_an_answer_that_is_cut_off_or_another_files(path, answer):
    broken = _answering(answer)
    _use(broken)
    assert np.array_equal(read(path).pixels, CHEST)
    assert broken.poll() is not None


def test_an_answer_of_another_size_than_the_header(path):
    broken = _answering(b"2 array |u1 32 128\n" + BLACK)
    _use(broken)
    with pytest.raises(RadiographError, match="disagree on its size"):
        read(path)
    assert np.array_equal(read(path).pixels, CHEST)


@pytest.mark.parametrize("answer", [b"", b"2 array " + SHAPE + b"\n" + BLACK[:100]])
def test_one_that_stalls_is_ended_at_the_deadline(path, monkeypatch, answer):
    """Before its answer as well as in the middle of it."""
    broken = _answering(answer, seconds=90)
    _use(broken)
    monkeypatch.setattr(client, "_TIMEOUT", 0.5)
    started = time.monotonic()
    with pytest.raises(RadiographError, match="takes more than 0 seconds to decode"):
        read(path)
    assert 0.4 < time.monotonic() - started < 60
    assert broken.poll() is not None
    monkeypatch.undo()
    assert np.array_equal(read(path).pixels, CHEST)


def test_the_start_of_the_process_does_not_count(path, monkeypatch):
    """Which takes seconds where other programs run."""

    def start_late():
        time.sleep(1.2)
        return _answering(b"1 array " + SHAPE + b"\n" + BLACK)

    monkeypatch.setattr(client, "_start", start_late)
    monkeypatch.setattr(client, "_TIMEOUT", 1.0)
    assert not read(path).pixels.any()


@pytest.mark.parametrize("answer", [b"", b"usage:"])
def test_a_process_that_does_not_become_ready(path, monkeypatch, answer):
    started = []
    monkeypatch.setattr(client, "_START_TIMEOUT", 0.5)
    with monkeypatch.context() as patch:
        popen = subprocess.Popen
        patch.setattr(
            client.subprocess, "Popen", lambda *_, **__: started.append(_saying(answer, popen))
            or started[-1],
        )  # fmt: skip
        with pytest.raises(RadiographError, match="its decoder ended twice"):
            read(path)
    assert [process.returncode for process in started] == [-signal.SIGKILL] * 2
    monkeypatch.undo()
    assert np.array_equal(read(path).pixels, CHEST)


def _saying(text: bytes, popen=subprocess.Popen) -> subprocess.Popen:
    """A process that writes something and does nothing for a long time."""
    program = f"import os, time; os.write(1, {text!r}); time.sleep(90)"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return popen([sys.executable, "-S", "-c", program], bufsize=0, **pipes)


def _answering(answer: bytes, seconds: int = 0) -> subprocess.Popen:
    """A process that gives one answer whatever it is asked, and ends some time later."""
    program = (
        "import sys, time; sys.stdin.buffer.readline(); "
        f"sys.stdout.buffer.write({answer!r}); sys.stdout.flush(); time.sleep({seconds})"
    )
    return subprocess.Popen(
        [sys.executable, "-S", "-c", program],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _use(process: subprocess.Popen) -> None:
    """Ask this process next; the question is the second."""
    ours = client._own_decoder()
    ours._number = 1
    ours._process, ours._answers = process, io.BufferedReader(process.stdout)


def _in_grays(folder) -> dict:
    """Files with pixels of their own."""
    grays = {folder / f"{gray}.dcm": CHEST // gray for gray in (1, 2, 3, 4)}
    for path, pixels in grays.items():
        dicoms.write(dicoms.dataset(pixels), path, JPEGLosslessSV1)
    return grays


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupted_read_leaves_no_answer_to_the_next_file(tmp_path, times):
    """As a notebook does it: the cell ends, and the process goes on to other files."""
    files = _in_grays(tmp_path)
    first, second, *_ = files
    read(first)
    for _ in range(times):
        process = client._local.decoder._process
        os.kill(process.pid, signal.SIGSTOP)  # so that the file is certainly under way
        interrupter = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            interrupter.start()  # here, for it may come early
            try:
                read(second)
            finally:
                interrupter.join()  # and not late, outside
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        for path, pixels in files.items():
            assert np.array_equal(read(path).pixels, pixels), path.name


def test_memory_that_runs_out_over_an_answer_leaves_none_to_the_next_file(tmp_path, monkeypatch):
    files = _in_grays(tmp_path)
    first, second, *_ = files
    read(first)
    with monkeypatch.context() as patch:
        patch.setattr(client.np, "empty", _no_memory)
        patch.setattr(client.np, "frombuffer", _no_memory)
        with pytest.raises(RadiographError):
            read(second)
    for path, pixels in files.items():
        assert np.array_equal(read(path).pixels, pixels), path.name


def _no_memory(*_, **__):
    raise MemoryError


def _mean(path) -> float:
    return float(read(path).pixels.mean())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_pool_forked_after_a_read(tmp_path):
    files = _in_grays(tmp_path)
    paths = list(files) * 3
    read(paths[0])
    process = client._local.decoder._process
    pool = multiprocessing.get_context("fork").Pool(3)
    try:
        means = pool.map_async(_mean, paths, chunksize=1)
        # While they are at it, their parent's decoder is their parent's alone.
        for path, pixels in files.items():
            assert np.array_equal(read(path).pixels, pixels)
        assert means.get(timeout=70) == [float(files[path].mean()) for path in paths]
    finally:
        pool.terminate()
        pool.join()
    assert client._local.decoder._process is process
    assert process.poll() is None


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
        client._local.decoder._end()

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


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_forked_while_another_thread_decodes(path):
    """Which has taken all the room there is, and in the child is not there to leave it."""
    taken, done = threading.Event(), threading.Event()

    def take():
        with PIXEL_BUDGET.reserve(DECODING_BYTES_AT_ONCE):
            taken.set()
            done.wait(60)

    thread = threading.Thread(target=take)
    thread.start()
    taken.wait(10)
    child = multiprocessing.get_context("fork").Process(target=_mean, args=(path,))
    child.start()
    child.join(20)
    ended = child.exitcode
    child.kill()
    done.set()
    thread.join()
    assert ended == 0


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLosslessSV1])
def test_nothing_is_imported_from_the_folder_of_a_users_script(tmp_path, syntax):
    """Folders called like modules are common beside scripts: `dl`, of those who do deep learning,
    is imported by GDCM, which pydicom imports where it is installed."""
    path = dicoms.write(dicoms.dataset(CHEST), tmp_path / "chest.dcm", syntax)
    script = tmp_path / "here/script.py"
    (tmp_path / "here/dl").mkdir(parents=True)
    (tmp_path / "here/imagecodecs.py").write_text("raise SystemExit('not this one')")
    script.write_text(
        "from pathlib import Path; from lungbox.radiograph import read\n"
        f"print(read(Path({str(path)!r})).pixels.sum())\n"
        "import dl; print(list(dl.__path__))\n"
    )
    done = _run([script.name], script.parent, ROOT)
    assert done.stdout.split() == [str(CHEST.sum()), f"['{tmp_path}/here/dl']"], done.stderr


def test_other_decoders_need_not_be_installed(tmp_path):
    """Our tests install them, and hold ours against them."""
    syntaxes = [syntax for syntax in dicoms.LOSSLESS if syntax.is_encapsulated]
    for syntax in syntaxes:
        dicoms.write(dicoms.dataset(CHEST), tmp_path / f"{syntax}.dcm", syntax)
    absent = tmp_path / "absent"
    absent.mkdir()
    for name in ("gdcm", "pylibjpeg", "openjpeg", "jpeg_ls"):
        (absent / f"{name}.py").write_text("raise ImportError('not installed')")
    program = (
        "from pathlib import Path; from lungbox.radiograph import read\n"
        "for path in Path().glob('*.dcm'): print(read(path).pixels.sum())"
    )
    done = _run(["-c", program], tmp_path, absent, ROOT)
    assert done.stdout.split() == [str(CHEST.sum())] * len(syntaxes), done.stderr


def _run(arguments: list[str], folder, *importable) -> subprocess.CompletedProcess:
    """Run Python as a user does, in a folder of theirs."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, importable))},
        capture_output=True,
        text=True,
        check=False,
    )


def _most_memory(process: subprocess.Popen) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1))


linux = pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")


@linux
def test_run_lengths_that_become_gigabytes(tmp_path, process):
    ds = dicoms.dataset(CHEST)
    segment = b"\x81\x00" * 9_000_000  # of 128 equal bytes each
    dicoms.store(ds, struct.pack("<16I", 1, 64, *[0] * 14) + segment, RLELossless)
    ds.save_as(tmp_path / "bomb.dcm", enforce_file_format=True)
    with pytest.raises(RadiographError, match=r"\(it takes more memory than a radiograph\)"):
        read(tmp_path / "bomb.dcm")
    assert _most_memory(client._local.decoder._process) < 1.1e9


@linux
def test_a_jpeg_2000_image_that_becomes_gigabytes(tmp_path, process):
    """Three colours of 100 megapixels each in 15 kB; decoded, they take 1.9 GB."""
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    image = bytearray(imagecodecs.jpeg2k_encode(noise, reversible=True, codecformat="j2k"))
    for size in (8, 24):  # of the image, of a tile
        struct.pack_into(">2I", image, size, 10_000, 10_000)
    ds = dicoms.dataset(noise)
    ds.Rows = ds.Columns = 10_000
    dicoms.store(ds, bytes(image), JPEG2000Lossless)
    ds.save_as(tmp_path / "bomb.dcm", enforce_file_format=True)
    with pytest.raises(RadiographError, match=r"decoding it takes 4\.8 GB of memory"):
        read(tmp_path / "bomb.dcm")
    # The process has a limit of its own, should the header's not be enough.
    with pytest.raises(ValueError, match="opj_decode"):
        client.decode_in_subprocess(pydicom.dcmread(tmp_path / "bomb.dcm"))
    assert _most_memory(client._local.decoder._process) < 1.1e9


@linux
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_codestreams_with_wrong_bytes_in_their_headers(tmp_path, process):
    random = np.random.default_rng(14)
    for syntax in (JPEGLosslessSV1, JPEG2000Lossless, HTJ2KLossless, RLELossless):
        for case in range(40):
            path = dicoms.write(dicoms.dataset(CHEST[:48]), tmp_path / f"{case}.dcm", syntax)
            dicoms.damage_image(path, lambda image: _spoil(image, random))
            started = time.monotonic()
            complaint_or_pixels(path, (48, 64))
            assert time.monotonic() - started < 30
    assert _most_memory(client._local.decoder._process) < 1.1e9


def _spoil(image: bytes, random: np.random.Generator) -> bytes:
    values = np.frombuffer(image, np.uint8).copy()
    values[random.integers(2, min(len(values), 160), 3)] = random.integers(0, 256, 3)
    return values.tobytes()
