"""Enter an 8-bit network of an ensemble whose weights are random: python -m benchmarks.random_int8
ENSEMBLE.

`lungbox quantise` would need labelled radiographs to say what becomes of its boxes; here only its
speed is asked. `benchmarks.process` runs it.
"""

import sys

from benchmarks.ensembles import quantised
from lungbox.export.verify import radiographs
from lungbox.paths import data_folder
from lungbox.pipeline import open_ensemble
from lungbox.weights.entries import Precisions, Quantised
from lungbox.weights.manifest import enter_precisions


def main() -> None:
    (name,) = sys.argv[1:]
    job, _ = open_ensemble(name, 8, precision="float32")
    images, _ = radiographs(job)
    made = quantised(job, data_folder(), images)
    file = Quantised(
        metric_change=0.0,
        same_count=0.0,
        images=0,  # so it is taken only when it is asked for
        sha256=made.sha256,
        bytes=made.path.stat().st_size,
        sources=(f"file:{made.path}",),
    )
    enter_precisions(job.key, Precisions(ensemble=name, int8=file))


if __name__ == "__main__":
    main()
