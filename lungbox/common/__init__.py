"""What every other package may use: paths, files, tables, progress, the Keras backend, threads."""
