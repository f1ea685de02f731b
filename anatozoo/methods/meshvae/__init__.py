"""Mesh VAE: phenotypes of hearts, learned from meshes alone."""
