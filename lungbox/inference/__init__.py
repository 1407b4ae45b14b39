"""Inference: a folder of radiographs to findings, result files and overlays."""
