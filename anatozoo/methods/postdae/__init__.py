"""Post-DAE: makes any segmentation plausible by an autoencoder that was trained on masks alone."""
