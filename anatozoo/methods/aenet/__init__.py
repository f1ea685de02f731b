"""AENet: the label autoencoder behind the shape prior of AC-RegNet."""
