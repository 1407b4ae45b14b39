"""Compressed pixel data, decoded in a process apart."""
