"""Which type the networks compute in: what is asked for, or the fastest that is good enough."""

from pathlib import Path
from typing import Literal

from lungbox.weights.entries import FASTER, Precision

PrecisionName = Literal["auto", "float32", "bfloat16", "int8"]
PRECISIONS: tuple[PrecisionName, ...] = ("auto", "float32", "bfloat16", "int8")
_CPU = Path("/proc/cpuinfo")
# With these instructions products of 8-bit integers are added up exactly; without them in 16 bits,
# which overflow, so that a network's boxes are not those that were checked.
_EXACT_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8"}
# Matrix units. With AVX512's instructions alone bfloat16 takes longer than float32
# (docs/benchmarks.md).
_FAST_BFLOAT16 = {"amx_bf16"}


# What a CPU needs for each, and how that is called.
_NEEDS: dict[Precision, tuple[set[str], str]] = {
    "int8": (_EXACT_INT8, "this processor cannot add up 8-bit products exactly (no VNNI)"),
    "bfloat16": (_FAST_BFLOAT16, "this processor has no matrix units for it (no AMX)"),
}


def fastest(permitted: tuple[Precision, ...]) -> Precision:
    """The fastest on this CPU of those that are permitted, and exact there.

    What a CPU can do is known on Linux only; elsewhere it is float32, unless asked for by name.
    """
    return next((name for name in FASTER if name in permitted and not obstacle(name)), "float32")


def obstacle(precision: Precision) -> str:
    """Why a type that is faster elsewhere is not on this CPU, or not exact; empty where it is."""
    can = _instructions()
    needed, lacking = _NEEDS[precision]
    if can & needed:
        return ""
    return lacking if can else "what this processor can do is looked up on Linux only"


def _instructions() -> set[str]:
    try:
        return set(_CPU.read_text(encoding="ascii", errors="ignore").split())
    except OSError:
        return set()
