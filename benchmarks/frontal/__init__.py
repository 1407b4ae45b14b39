"""The frontal check of `lungbox.radiograph.frontal`: how it was made, and its figures."""
