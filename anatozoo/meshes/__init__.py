"""Surfaces of triangles: hearts of stacks of labels, their topology, their masks and their quality."""
