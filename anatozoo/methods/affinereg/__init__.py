"""Affine registration by a Siamese network, whose latents also tell which images are alike."""
