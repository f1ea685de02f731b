"""Landmarks from one code of the image: PCA and fully connected decoders."""
