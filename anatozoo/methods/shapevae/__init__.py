"""ShapeVAE: a variational autoencoder of organ contours on a graph, whose decoder is HybridGNet's."""
