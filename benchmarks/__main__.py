"""Where the time goes, step by step: python -m benchmarks [IMAGE_DIR].

Machines differ and are noisy, so each row also gives its ratio to the whole in the same run. Times
are medians over repeated passes. A step alone reads, prepares or finds regions in one thread; the
whole does so in as many as there are processors, and the networks always use all.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from lungbox.boxes import decide
from lungbox.engines import start
from lungbox.inference.files import find_image_files
from lungbox.inference.predictor import Detector, load
from lungbox.radiograph import prepare, read

REPEATS = 5
IMAGES, BATCH = 64, 8
WHOLE = "all of it (OpenVINO)"


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("examples")
    found, _ = find_image_files(folder)
    sources = (found * (IMAGES // len(found) + 1))[:IMAGES]
    detector = load(batch_size=BATCH, precision="float32")
    config = detector.engine.config
    # Without the gate: as if every radiograph had regions to be found.
    open_gate = replace(detector.point, gate=0.0)
    radiographs = [read(source.path) for source in sources]
    prepared = np.stack([prepare(r.pixels, config.image_size) for r in radiographs])
    batches = [prepared[i : i + config.batch_size] for i in range(0, IMAGES, config.batch_size)]
    predicted = [detector.engine.predict(batch) for batch in batches]
    rows = [batch.image(row) for batch in predicted for row in range(len(batch.scores))]
    predictions = list(zip(rows, radiographs, strict=True))

    steps: dict[str, Callable[[], object]] = {
        "read": lambda: [read(source.path) for source in sources],
        "prepare": lambda: [prepare(r.pixels, config.image_size) for r in radiographs],
        "network, Keras": _runner(start("keras", config), batches),
        "network, OpenVINO": _runner(start("openvino", config), batches),
        "regions": lambda: [decide(one, r.size, open_gate) for one, r in predictions],
        WHOLE: lambda: _whole(detector, sources),
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
    table = Table("step", "ms an image", "of the whole", title=f"{IMAGES} from {folder}")
    for name, milliseconds in times.items():
        table.add_row(name, f"{milliseconds:.2f}", f"{milliseconds / times[WHOLE]:.3f}")
    Console().print(table)


main()
