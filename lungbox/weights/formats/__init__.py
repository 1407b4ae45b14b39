"""Formats of weight files, to and from Keras models."""
