"""Shared helpers: paths, files, tables, progress bars, threads, optional dependencies."""
