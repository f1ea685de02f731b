"""AENet: the label autoencoder that tells AC-RegNet which shapes are plausible."""
