"""A page in the browser: drop an image, see its segmentation; see ``anatozoo app``."""
