"""How fast the networks run: python -m benchmarks.engines [ENSEMBLE ...].

Each ensemble (`lite0`, the four, the reference system's four; random weights, for only speed is
asked) in every engine and precision, beside what others would do: `keras.Model.predict` network by
network, as the reference system does it; the same networks in PyTorch (`pip install
'lungbox[torch]'`) eager, in bfloat16 with channels last, and compiled; ONNX Runtime. Prepared
images in, masks out; medians, each in turns with `predict`. The last column is the share of what
the machine can multiply: the networks' operations a second over those of a float32 product of large
matrices.
"""

import gc
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

from benchmarks.ensembles import ENSEMBLES, int8_model, random_config
from benchmarks.turns import in_turns
from lungbox import architecture
from lungbox.architecture.cost import gflops
from lungbox.common.parallel import available_cpus
from lungbox.engines import EngineConfig, EngineName, start
from lungbox.export.verify import radiographs
from lungbox.weights.entries import Precision

IMAGES, BATCH, ROUNDS = 16, 8, 3
_PREDICT = "keras.Model.predict, network by network"
Way = Callable[[], object]
Maker = Callable[[], Way]


def main() -> None:
    console = Console(highlight=False)
    peak = _matrix_product()
    console.print(f"product of large float32 matrices: {peak:.0f} GFLOP/s")
    for name in sys.argv[1:] or ENSEMBLES:
        with tempfile.TemporaryDirectory() as folder:
            _show(name, Path(folder), peak, console)


def _show(name: str, folder: Path, peak: float, console: Console) -> None:
    networks, side = ENSEMBLES[name]
    config = random_config(name, folder, BATCH)
    examples, _ = radiographs(config)
    images = examples[np.arange(IMAGES) % len(examples)]
    models = [architecture.build(network, side) for network in networks]
    makers = _ours(config, folder, images) | _others(models, folder, images, console)
    seconds, ratios = _times(_predict(models, images), makers, console)
    operations = sum(map(gflops, models))
    table = Table(
        "way", "ms an image", "times predict", "of the product",
        title=f"{name}: {len(networks)} of {operations:.1f} GFLOPs together, {side} px",
    )  # fmt: skip
    for way, taken in sorted(seconds.items(), key=lambda item: -item[1]):
        rate = operations * IMAGES / taken
        table.add_row(
            way, f"{taken / IMAGES * 1000:.1f}", f"{ratios[way]:.2f}", f"{rate / peak:.2f}"
        )  # fmt: skip
    console.print(table)


def _times(
    predict: Way, makers: dict[str, Maker], console: Console
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of each way, and how many times faster it is than `predict` beside it. One way at a
    time, for all together take more memory than most machines have."""
    predict()
    seconds, ratios, beside = {}, {}, []
    for name, make in makers.items():
        try:
            way = make()
            way()
        except Exception as error:  # no compiler, no bfloat16: each says so in its own way
            console.print(f"{name}: {str(error).splitlines()[0][:150]}", markup=False)
            continue
        both = in_turns({name: way, _PREDICT: predict}, ROUNDS, warm_up=0)
        seconds[name], ratios[name] = both[name], both[_PREDICT] / both[name]
        beside.append(both[_PREDICT])
        console.print(f"{name}: {ratios[name]:.2f} times predict", style="dim", markup=False)
        del way
        gc.collect()
    return seconds | {_PREDICT: float(np.median(beside))}, ratios | {_PREDICT: 1.0}


def _predict(models, images: NDArray[np.uint8]) -> Way:
    for model in models:
        model.compile(jit_compile=False)
    pixels = images[..., None].astype(np.float32)
    return lambda: [model.predict(pixels, verbose=0) for model in models]


def _ours(config: EngineConfig, folder: Path, images: NDArray[np.uint8]) -> dict[str, Maker]:
    batches = np.split(images, IMAGES // BATCH)

    def maker(engine: EngineName, precision: Precision) -> Maker:
        def make() -> Way:
            file = int8_model(config, folder, images) if precision == "int8" else None
            running = start(engine, replace(config, precisions=(precision,), int8=file))
            return lambda: [running.predict(batch) for batch in batches]

        return make

    makers = {
        "Keras, one graph": maker("keras", "float32"),
        "OpenVINO, float32": maker("openvino", "float32"),
        "OpenVINO, bfloat16": maker("openvino", "bfloat16"),
    }
    return makers | ({"OpenVINO, int8": maker("openvino", "int8")} if find_spec("nncf") else {})


def _others(models, folder: Path, images: NDArray[np.uint8], console: Console) -> dict[str, Maker]:
    makers: dict[str, Maker] = {}
    if find_spec("onnxruntime") and find_spec("tf2onnx"):
        makers["ONNX Runtime"] = lambda: _onnx(models, folder, images)
    if find_spec("torch"):
        makers |= _pytorch(models, images)
    else:
        console.print("No PyTorch here: pip install 'lungbox[torch]'", markup=False)
    return makers


def _onnx(models, folder: Path, images: NDArray[np.uint8]) -> Way:
    import onnxruntime

    from lungbox.architecture.ensemble import average
    from lungbox.export.convert import write

    path = folder / "network.onnx"
    write("onnx", average([(model, 1 / len(models)) for model in models]), path, BATCH, "{}")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = available_cpus()
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    batches = np.split(images[..., None], IMAGES // BATCH)
    return lambda: [session.run(None, {entry.name: batch}) for batch in batches]


def _pytorch(models, images: NDArray[np.uint8]) -> dict[str, Maker]:
    """As it comes; as fast as it goes without compiling; compiled, where there is a compiler."""
    import torch

    from benchmarks.torch_twin import Twin, check

    batches = torch.from_numpy(images[..., None].astype(np.float32)).split(BATCH)

    def twin(model):
        made = Twin(model).eval()
        assert check(model, made) < 1e-2, f"{model.name}: the twin differs"
        return made

    def maker(fast: bool, compiled: bool) -> Maker:
        def make() -> Way:
            twins = [twin(model) for model in models]
            if fast:
                twins = [one.to(memory_format=torch.channels_last) for one in twins]
            if compiled:
                twins = [torch.compile(one) for one in twins]

            def run() -> None:
                with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
                    for batch in batches:
                        for one in twins:
                            one(batch)

            return run

        return make

    return {
        "PyTorch": maker(fast=False, compiled=False),
        "PyTorch, channels last, bfloat16": maker(fast=True, compiled=False),
        "PyTorch, compiled": maker(fast=False, compiled=True),
        "PyTorch, channels last, bfloat16, compiled": maker(fast=True, compiled=True),
    }


def _matrix_product(side: int = 2048, repeats: int = 8) -> float:
    """Operations a second of a product of two square float32 matrices, in billions."""
    random = np.random.default_rng(0)
    one, other = (random.random((side, side), np.float32) for _ in range(2))
    taken = in_turns({"product": lambda: one @ other}, repeats)["product"]
    return 2 * side**3 / taken / 1e9


if __name__ == "__main__":
    main()
