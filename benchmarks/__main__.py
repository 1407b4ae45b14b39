"""Where the time goes, step by step: python -m benchmarks [IMAGE_DIR].

Machines differ and are noisy, so each row also gives its ratio to the slowest step of the same
run. Times are medians over repeated passes, on as many threads as the program uses itself.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from lungbox.boxes import regions
from lungbox.engines import start
from lungbox.folder import gather
from lungbox.pipeline import Detector, load
from lungbox.radiograph import prepare, read

REPEATS = 5
IMAGES = 64


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("examples")
    found, _ = gather(folder)
    sources = (found * (IMAGES // len(found) + 1))[:IMAGES]
    detector = load(precision="float32")
    job = detector.engine.job
    radiographs = [read(source.path) for source in sources]
    prepared = np.stack([prepare(r.pixels, job.image_size) for r in radiographs])
    batches = [prepared[i : i + job.batch_size] for i in range(0, IMAGES, job.batch_size)]
    masks, scores, _ = zip(*(detector.engine.predict(batch) for batch in batches), strict=True)
    answers = list(zip(np.concatenate(masks), np.concatenate(scores), radiographs, strict=True))

    steps: dict[str, Callable[[], object]] = {
        "read": lambda: [read(source.path) for source in sources],
        "prepare": lambda: [prepare(r.pixels, job.image_size) for r in radiographs],
        "network, Keras": _runner(start("keras", job), batches),
        "network, OpenVINO": _runner(start("openvino", job), batches),
        "regions": lambda: [
            regions(mask, r.size, float(score), detector.point) for mask, score, r in answers
        ],
        "all of it (OpenVINO)": lambda: _whole(detector, sources),
    }
    _show({name: _median(step) for name, step in steps.items()}, folder)


def _runner(engine, batches):
    return lambda: [engine.predict(batch) for batch in batches]


def _whole(detector: Detector, sources) -> None:
    for _ in detector.predict_all(sources):
        pass


def _median(step: Callable[[], object]) -> float:
    """Milliseconds an image."""
    step()
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times) / IMAGES * 1000


def _show(times: dict[str, float], folder: Path) -> None:
    table = Table("step", "ms per image", "share of the slowest", title=f"{IMAGES} from {folder}")
    slowest = max(times.values())
    for name, milliseconds in times.items():
        table.add_row(name, f"{milliseconds:.2f}", f"{milliseconds / slowest:.2f}")
    Console().print(table)


main()
