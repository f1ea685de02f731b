"""Reading images, carrying geometry, writing results."""
