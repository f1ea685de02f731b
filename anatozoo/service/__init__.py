"""A small HTTP service: an image comes in, its segmentation goes out; see ``anatozoo serve``."""
