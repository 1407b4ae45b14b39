"""What produced the figures of speed in the documentation; `make bench` runs them."""
