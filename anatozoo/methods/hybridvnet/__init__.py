"""HybridVNet: from stacks of images to meshes of hearts."""
