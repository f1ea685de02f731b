"""Affine registration by a Siamese network, whose latents also tell which images are alike."""

from anatozoo.methods.affinereg.module import AffineRegModule

__all__ = ["AffineRegModule"]
