"""Multi-atlas segmentation: landmarks and label maps by registration to images that have them."""
