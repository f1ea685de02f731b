"""Seg2Graph: landmarks with correspondences from masks."""
