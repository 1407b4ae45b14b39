"""What produced the figures of speed in the documentation, which `make bench` runs; and in
`frontal/`, the frontal check and its figures."""
