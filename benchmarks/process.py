"""Whole processes, as a user starts them: python -m benchmarks.process IMAGE_DIR [--growth].

Radiographs of IMAGE_DIR become 184 JPEG DICOMs of 1024 x 1024 pixels, which are boxed by the
default, by the four networks (random weights) and in the reference system's way; cold (its cache
folder is empty), then warm, in turns. Also one image; and with `--growth` 100, 1,000 and 10,000
files. Seconds and the peak of memory of the process. Linux only, for the memory.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.dicoms import write_dicoms
from benchmarks.ensembles import ENSEMBLES, write_weights

FILES, ROUNDS = 184, 2
GROWTH = (100, 1_000, 10_000)
_PREDICT = ("-m", "lungbox", "predict")


@dataclass(frozen=True)
class Took:
    """What a process took: seconds, and megabytes at its peak."""

    seconds: float
    megabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("--growth", action="store_true")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_dicoms(arguments.images, place / "many", FILES)
        write_dicoms(arguments.images, place / "one", 1)
        if arguments.growth:
            _growth(place, console)
        else:
            _enter_four(place)
            _whole(place, console)


def _whole(place: Path, console: Console) -> None:
    int8 = {f"four, int8, {FILES} files": _predict(place, "many", "four-random", "int8")}
    commands = {
        f"reference's way, {FILES} files": _reference(place),
        f"four, {FILES} files": _predict(place, "many", "four-random"),
        **(int8 if find_spec("nncf") else {}),
        f"default, float32, {FILES} files": _predict(place, "many", "default", "float32"),
        f"default, {FILES} files": _predict(place, "many", "default"),
        "default, one file": _predict(place, "one", "default"),
    }
    found: dict[str, list[Took]] = {name: [] for name in commands}
    for turn in range(1 + ROUNDS):
        for number, (name, command) in enumerate(commands.items()):
            with Console(stderr=True).status(f"{name}, {turn + 1} of {1 + ROUNDS}"):
                found[name].append(_run(command, place, place / f"cache-{number}"))
    cold = {name: took[0] for name, took in found.items()}
    warm = {name: took[1:] for name, took in found.items()}
    slowest = statistics.median(took.seconds for took in next(iter(warm.values())))
    table = Table("", "cold, s", "warm, s", "of the reference's", "peak, MB", title="processes")
    for name, runs in warm.items():
        seconds = statistics.median(took.seconds for took in runs)
        peak = max(took.megabytes for took in runs)
        table.add_row(
            name, f"{cold[name].seconds:.1f}", f"{seconds:.2f}", f"1/{slowest / seconds:.1f}",
            f"{peak:.0f}",
        )  # fmt: skip
    console.print(table)


def _growth(place: Path, console: Console) -> None:
    _run(_predict(place, "one", "default"), place, place / "cache")  # converts the network
    table = Table("files", "seconds", "ms a file", "peak, MB", title="the default, warm")
    for count in GROWTH:
        _copies(place / "many", place / "grown", count)
        took = _run(_predict(place, "grown", "default"), place, place / "cache")
        table.add_row(
            f"{count:,}", f"{took.seconds:.1f}", f"{took.seconds / count * 1000:.1f}",
            f"{took.megabytes:.0f}",
        )  # fmt: skip
    console.print(table)


def _copies(source: Path, target: Path, count: int) -> None:
    target.mkdir(exist_ok=True)
    files = sorted(source.iterdir())
    for number in range(count):
        path = target / f"{number:06d}.dcm"
        if not path.exists():
            path.hardlink_to(files[number % len(files)])


def _enter_four(place: Path) -> None:
    networks, side = ENSEMBLES["four"]
    names = [f"random-{name}" for name in networks]
    paths = write_weights("four", place / "weights")
    for name, network, path in zip(names, networks, paths, strict=True):
        add = ("-m", "lungbox", "weights", "add", name, str(path), "--architecture", network)
        _run((*add, "--image-size", str(side)), place, place / "cache")
    with (place / "home/manifest.toml").open("a", encoding="utf-8") as manifest:
        manifest.write(f"\n[ensembles.four-random]\nmembers = {json.dumps(names)}\n")
    if find_spec("nncf"):
        _run(("-m", "benchmarks.random_int8", "four-random"), place, place / "cache")


def _reference(place: Path) -> tuple[str, ...]:
    return ("-m", "benchmarks.reference_way", str(place / "many"), str(place / "reference.csv"))


def _predict(place: Path, files: str, ensemble: str, precision: str = "auto") -> tuple[str, ...]:
    asked = ("--ensemble", ensemble, "--precision", precision)
    return (*_PREDICT, str(place / files), *asked, "--output", "OUTPUT")


def _run(command: tuple[str, ...], place: Path, cache: Path) -> Took:
    """Start a Python process and wait for it; `OUTPUT` is a new folder each time."""
    environment = os.environ | {
        "LUNGBOX_HOME": str(place / "home"),
        "LUNGBOX_CACHE": str(cache),
    }
    with tempfile.TemporaryDirectory(dir=place) as output:
        words = [output if word == "OUTPUT" else word for word in command]
        started = time.perf_counter()
        with (
            tempfile.TemporaryFile("w+") as said,
            subprocess.Popen([sys.executable, *words], env=environment, stderr=said) as process,
        ):
            peak = 0.0
            while process.poll() is None:
                peak = max(peak, _peak(process.pid))
                time.sleep(0.01)
            taken = time.perf_counter() - started
            if process.returncode:
                said.seek(0)
                raise SystemExit(f"{' '.join(words)}: {said.read()}")
    return Took(taken, peak)


def _peak(process: int) -> float:
    """Megabytes so far. (What `wait4` says begins with the memory of whoever started it.)"""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s*(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    main()
