"""Training ideas that any method can take."""
