"""Encoders: a light one of our own, and those of Keras Applications, tapped for a decoder."""
