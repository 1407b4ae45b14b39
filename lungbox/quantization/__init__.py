"""Quantization: an ensemble's INT8 model, checked on held-out images, and registered."""

from lungbox.quantization.run import quantize_ensemble

__all__ = ["quantize_ensemble"]
