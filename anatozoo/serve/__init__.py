"""Run models over many inputs: find them, compute in batches, write one row for each."""
