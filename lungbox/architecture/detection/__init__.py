"""Detection networks: RetinaNet and Faster R-CNN on any encoder, their parts and losses.

Boxes are `x1, y1, x2, y2` in 0-1 of the image throughout.
"""
