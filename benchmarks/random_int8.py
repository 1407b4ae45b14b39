"""Register an INT8 model with random weights: python -m benchmarks.random_int8 ENSEMBLE.

`lungbox quantize` would need labelled radiographs to check its boxes; here only its speed is
measured, by `benchmarks.process`.
"""

import sys

from benchmarks.ensembles import int8_model
from lungbox.common.paths import data_folder
from lungbox.export.verify import radiographs
from lungbox.inference.predictor import open_ensemble
from lungbox.weights.entries import Int8Entry, Precisions
from lungbox.weights.manifest import register_precisions


def main() -> None:
    (name,) = sys.argv[1:]
    config, *_ = open_ensemble(name, 8, precision="float32")
    images, _ = radiographs(config)
    made = int8_model(config, data_folder(), images)
    file = Int8Entry(
        metric_change=0.0,
        same_count=0.0,
        images=0,  # so it is used only when it is requested
        sha256=made.sha256,
        bytes=made.path.stat().st_size,
        sources=(f"file:{made.path}",),
    )
    register_precisions(config.key, Precisions(ensemble=name, int8=file))


if __name__ == "__main__":
    main()
