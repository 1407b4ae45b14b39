"""Which type the networks compute in: what is asked for, or the fastest that is good enough."""

from pathlib import Path
from typing import Literal

from lungbox.weights.entries import Precision

PrecisionName = Literal["auto", "float32", "bfloat16", "int8"]
PRECISIONS: tuple[PrecisionName, ...] = ("auto", "float32", "bfloat16", "int8")
_CPU = Path("/proc/cpuinfo")


def fastest(permitted: tuple[Precision, ...]) -> Precision:
    """The fastest on this CPU of those that are permitted.

    8-bit integers wherever there are any. bfloat16 only with matrix units for it (AMX): with
    AVX512's instructions alone OpenVINO takes 1.4 times as long as in float32
    (docs/benchmarks.md).
    """
    if "int8" in permitted:
        return "int8"
    return "bfloat16" if "bfloat16" in permitted and _multiplies_bfloat16() else "float32"


def _multiplies_bfloat16() -> bool:
    """Known on Linux only, which is where such processors are."""
    try:
        return "amx_bf16" in _CPU.read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
