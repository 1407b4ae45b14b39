"""How fast the networks run: python -m benchmarks.engines [ENSEMBLE ...].

Each ensemble (`lite0`, the four, the reference system's four; random weights, for only speed is
asked) in every engine and precision, beside what others would do: `keras.Model.predict` network by
network, as the reference system does it; the same networks in PyTorch (`pip install
'lungbox[torch]'`) eager, in bfloat16 with channels last, and compiled; ONNX Runtime. Prepared
images in, masks out; medians in turns. The last column is the share of what the machine can
multiply: the networks' operations a second over those of a float32 product of large matrices.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.ensembles import ENSEMBLES, random_job
from benchmarks.turns import in_turns
from lungbox import architecture
from lungbox.architecture.cost import gflops
from lungbox.engines import EngineError, Int8, Job, start
from lungbox.export.verify import radiographs

IMAGES, BATCH, ROUNDS = 16, 8, 5
_PREDICT = "keras.Model.predict, network by network"
Way = Callable[[], object]


def main() -> None:
    console = Console(highlight=False)
    peak = _matrix_product()
    console.print(f"product of large float32 matrices: {peak:.0f} GFLOP/s")
    for name in sys.argv[1:] or ENSEMBLES:
        with tempfile.TemporaryDirectory() as folder:
            _show(name, Path(folder), peak, console)


def _show(name: str, folder: Path, peak: float, console: Console) -> None:
    networks, side = ENSEMBLES[name]
    job = random_job(name, folder, BATCH)
    examples, _ = radiographs(job)
    images = examples[np.arange(IMAGES) % len(examples)]
    models = [architecture.build(network, side) for network in networks]
    ways = _ours(job, folder, images, console) | _others(models, folder, images, console)
    seconds = in_turns(ways, ROUNDS)
    operations = sum(map(gflops, models))
    table = Table(
        "way", "ms an image", "times predict", "of the product",
        title=f"{name}: {len(networks)} of {operations:.1f} GFLOPs together, {side} px",
    )  # fmt: skip
    for way, taken in sorted(seconds.items(), key=lambda item: -item[1]):
        rate = operations * IMAGES / taken
        table.add_row(
            way, f"{taken / IMAGES * 1000:.1f}", f"{seconds[_PREDICT] / taken:.2f}",
            f"{rate / peak:.2f}",
        )  # fmt: skip
    console.print(table)


def _ours(job: Job, folder: Path, images: NDArray[np.uint8], console: Console) -> dict[str, Way]:
    jobs = {
        "Keras, one graph": ("keras", job),
        "OpenVINO, float32": ("openvino", job),
        "OpenVINO, bfloat16": ("openvino", replace(job, precisions=("bfloat16",))),
    }
    if find_spec("nncf"):
        int8 = replace(job, precisions=("int8",), int8=_quantised(job, folder, images))
        jobs["OpenVINO, int8"] = ("openvino", int8)
    engines = {}
    for way, (engine, one) in jobs.items():
        try:
            engines[way] = start(engine, one)  # type: ignore[arg-type]
        except EngineError as error:  # not every processor knows bfloat16
            console.print(f"{way}: {error}", markup=False)
    batches = np.split(images, IMAGES // BATCH)
    return {
        way: lambda engine=engine: [engine.predict(batch) for batch in batches]
        for way, engine in engines.items()
    }


def _quantised(job: Job, folder: Path, images: NDArray[np.uint8]) -> Int8:
    """Of random weights nothing can be said about agreement, so as the default's: depthwise and the
    first convolutions stay in float32."""
    from lungbox.engines.openvino import converted, save_int8
    from lungbox.quantise.network import STEPS, quantise
    from lungbox.weights.fetch import sha256

    step = STEPS[2] if job.ensemble == "lite0" else STEPS[0]
    made = quantise(converted(job), images, [step])
    path = folder / "int8.safetensors"
    save_int8(made.network, path)
    return Int8(path, sha256(path))


def _others(models, folder: Path, images: NDArray[np.uint8], console: Console) -> dict[str, Way]:
    for model in models:
        model.compile(jit_compile=False)
    pixels = images[..., None].astype(np.float32)
    ways: dict[str, Way] = {
        _PREDICT: lambda: [model.predict(pixels, verbose=0) for model in models]
    }
    if find_spec("onnxruntime") and find_spec("tf2onnx"):
        ways["ONNX Runtime"] = _onnx(models, folder, images)
    if find_spec("torch"):
        ways |= _pytorch(models, pixels, console)
    else:
        console.print("No PyTorch here: pip install 'lungbox[torch]'", markup=False)
    return ways


def _onnx(models, folder: Path, images: NDArray[np.uint8]) -> Way:
    import onnxruntime

    from lungbox.architecture.ensemble import average
    from lungbox.export.convert import write

    path = folder / "network.onnx"
    write("onnx", average([(model, 1 / len(models)) for model in models]), path, BATCH, "{}")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = os.cpu_count() or 1
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    batches = np.split(images[..., None], IMAGES // BATCH)
    return lambda: [session.run(None, {entry.name: batch}) for batch in batches]


def _pytorch(models, pixels: NDArray[np.float32], console: Console) -> dict[str, Way]:
    """As it comes; as fast as it goes without compiling; compiled, where there is a compiler."""
    import torch

    from benchmarks.torch_twin import Twin, check

    batches = torch.from_numpy(pixels).split(BATCH)

    def way(fast: bool, compiled: bool) -> Way:
        twins = [Twin(model).eval() for model in models]
        if fast:
            twins = [twin.to(memory_format=torch.channels_last) for twin in twins]
        if compiled:
            twins = [torch.compile(twin) for twin in twins]

        def run() -> None:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
                for batch in batches:
                    for twin in twins:
                        twin(batch)

        return run

    for model in models:
        assert check(model, Twin(model)) < 1e-2, f"{model.name}: the twin differs"
    ways = {
        "PyTorch": way(fast=False, compiled=False),
        "PyTorch, channels last, bfloat16": way(fast=True, compiled=False),
        "PyTorch, compiled": way(fast=False, compiled=True),
        "PyTorch, channels last, bfloat16, compiled": way(fast=True, compiled=True),
    }
    found = {}
    for what, run in ways.items():
        try:
            run()
            found[what] = run
        except Exception as error:  # compiling needs a C++ compiler, and says so in many ways
            console.print(f"{what}: {str(error).splitlines()[0][:150]}")
    return found


def _matrix_product(side: int = 2048, repeats: int = 8) -> float:
    """Operations a second of a product of two square float32 matrices, in billions."""
    random = np.random.default_rng(0)
    one, other = (random.random((side, side), np.float32) for _ in range(2))
    taken = in_turns({"product": lambda: one @ other}, repeats)["product"]
    return 2 * side**3 / taken / 1e9


if __name__ == "__main__":
    main()
