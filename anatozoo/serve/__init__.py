"""Run models over many images: find them, predict in batches, write one row per image."""
