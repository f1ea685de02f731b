"""ACNN-SR: super-resolution of volumes with thick slices, which a shape prior constrains in training."""
