"""ACNN: segmentation and super-resolution networks that a learned shape prior constrains."""
