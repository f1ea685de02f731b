"""Networks as graphs in files: exports for other programs, and engines that run them behind `predict`."""
