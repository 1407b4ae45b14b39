"""Weight files: known by the manifest, fetched, checked and read."""
