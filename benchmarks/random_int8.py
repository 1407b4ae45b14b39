"""Enter an 8-bit network of an ensemble whose weights are random: python -m benchmarks.random_int8
ENSEMBLE.

`lungbox quantise` would need labelled radiographs to say what becomes of its boxes; here only its
speed is asked. All of it is in 8 bits. `benchmarks.process` runs it.
"""

import sys
from pathlib import Path

from lungbox.export.verify import radiographs
from lungbox.frameworks import start_keras
from lungbox.paths import data_folder
from lungbox.pipeline import key_of, open_ensemble
from lungbox.weights.entries import Precisions, Quantised
from lungbox.weights.fetch import sha256
from lungbox.weights.manifest import enter_precisions


def main() -> None:
    start_keras()
    from lungbox.engines.openvino import converted, save_int8
    from lungbox.quantise.network import quantise

    (name,) = sys.argv[1:]
    job, point = open_ensemble(name, 8, precision="float32")
    images, _ = radiographs(job)
    path = Path(data_folder() / "int8.safetensors").resolve()
    save_int8(quantise(converted(job), images, [()]).network, path)
    file = Quantised(
        metric_change=0.0,
        same_count=0.0,
        images=0,  # so it is taken only when it is asked for
        sha256=sha256(path),
        bytes=path.stat().st_size,
        sources=(f"file:{path}",),
    )
    enter_precisions(key_of(job, point), Precisions(ensemble=name, int8=file))


if __name__ == "__main__":
    main()
