"""Affine registration by a Siamese network, whose latents also measure the similarity of images."""
