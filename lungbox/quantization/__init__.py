"""Ensembles in other precisions: made, checked on images nobody learned from, and entered."""

from lungbox.quantization.run import quantize_ensemble

__all__ = ["quantize_ensemble"]
