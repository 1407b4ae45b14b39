"""Files read one by one in a process of its own, with the time and memory that each takes.

Linux only: the peak of a process is reset and read under `/proc`.
"""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

# A process that takes more ends itself, so that a fault found does not take the machine with it.
_FUSE = 8_000_000_000


@dataclass(frozen=True)
class Measured:
    """What became of one file.

    Attributes:
        outcome: `read`, `refused`, `error` (an exception that is no `RadiographError`), `crash`
            or `too slow`.
        message: why it was not read.
        seconds: of wall-clock time.
        processor: seconds of processor time, of the process and its children: what it would take
            at most on a machine with nothing else to do.
        peak: bytes of memory at most, of the process and its children together, with what Python
            and its libraries take.
    """

    outcome: str
    message: str
    seconds: float
    processor: float
    peak: int


class Reader:
    """A process that reads files, started anew after one that it did not survive.

    Args:
        patience: seconds after which a file is given up.
    """

    def __init__(self, patience: float = 60.0) -> None:
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def read(self, path: Path) -> Measured:
        """Read and prepare one file."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        started = time.monotonic()
        process.stdin.write(json.dumps(str(path)).encode() + b"\n")
        process.stdin.flush()
        with DefaultSelector() as selector:
            selector.register(process.stdout, EVENT_READ)
            answered = bool(selector.select(self._patience))
        line = process.stdout.readline() if answered else b""
        if line:
            return Measured(**json.loads(line))
        self._end()
        outcome = "crash" if answered else "too slow"
        return Measured(outcome, "no answer", time.monotonic() - started, 0.0, 0)

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.measured"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=Path(__file__).parent.parent,
            )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


class _Children(threading.Thread):
    """Watches what memory the decoders of this process take; they may not live to tell."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        while True:
            self.peak = max(self.peak, sum(map(_resident, _children(os.getpid()))))
            if self.peak + _resident(os.getpid()) > _FUSE:
                os._exit(9)
            time.sleep(0.02)


def _children(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            direct = [int(word) for word in (task / "children").read_text().split()]
        except OSError:
            continue
        for child in direct:
            found += [child, *_children(child)] if Path(f"/proc/{child}/task").is_dir() else []
    return found


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    except OSError:
        return 0  # it has ended


def _processor_time() -> float:
    ticks = 0
    for child in _children(os.getpid()):
        with suppress(OSError):  # it has ended, and is among those that have
            ticks += sum(
                map(int, Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:13])
            )
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticking = ticks / os.sysconf("SC_CLK_TCK")
    return time.process_time() + ticking + ended.ru_utime + ended.ru_stime


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def peak_of(call: Callable[[], object]) -> int:
    """Bytes of memory that this process took at most while `call` ran, beyond what it had."""
    before = _resident(os.getpid())
    Path("/proc/self/clear_refs").write_text("5")
    call()
    return _peak() - before


def _serve() -> None:
    from lungbox.radiograph import RadiographError, prepare, read

    children = _Children()
    children.start()
    for line in sys.stdin.buffer:
        path = Path(json.loads(line))
        Path("/proc/self/clear_refs").write_text("5")
        children.peak = 0
        started, computed = time.monotonic(), _processor_time()
        try:
            prepare(read(path).pixels, 256)
            outcome, message = "read", ""
        except RadiographError as error:
            outcome, message = "refused", str(error)
        except BaseException as error:
            outcome, message = "error", f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - started
        computing = _processor_time() - computed
        answer = Measured(outcome, message, seconds, computing, _peak() + children.peak)
        sys.stdout.write(json.dumps(vars(answer)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
