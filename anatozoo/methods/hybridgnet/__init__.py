"""HybridGNet: organ contours on a graph."""
