"""Network building blocks in pure torch: no Lightning, no files, no network access."""
