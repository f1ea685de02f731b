"""Post-DAE: any segmentation made anatomically plausible by an autoencoder that learnt from masks alone."""
