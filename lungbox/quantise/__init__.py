"""Ensembles in other precisions: made, checked on images nobody learned from, and entered."""

from lungbox.quantise.run import run

__all__ = ["run"]
