"""Encoders: EfficientNet-Lite0, and networks of Keras Applications."""
