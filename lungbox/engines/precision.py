"""Which type the networks compute in: what is asked for, or the fastest that is good enough."""

from pathlib import Path
from typing import Literal

from lungbox.weights.entries import Precision

PrecisionName = Literal["auto", "float32", "bfloat16", "int8"]
PRECISIONS: tuple[PrecisionName, ...] = ("auto", "float32", "bfloat16", "int8")
_CPU = Path("/proc/cpuinfo")
# With these instructions products of 8-bit integers are added up exactly; without them in 16 bits,
# which overflow, so that a network's boxes are not those that were checked.
_EXACT_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8"}
# Matrix units. With AVX512's instructions alone bfloat16 takes longer than float32
# (docs/benchmarks.md).
_FAST_BFLOAT16 = {"amx_bf16"}


def fastest(permitted: tuple[Precision, ...]) -> Precision:
    """The fastest on this CPU of those that are permitted, and exact there.

    What a CPU can do is known on Linux only; elsewhere it is float32, unless asked for by name.
    """
    can = _instructions()
    if "int8" in permitted and can & _EXACT_INT8:
        return "int8"
    return "bfloat16" if "bfloat16" in permitted and can & _FAST_BFLOAT16 else "float32"


def _instructions() -> set[str]:
    try:
        return set(_CPU.read_text(encoding="ascii", errors="ignore").split())
    except OSError:
        return set()
