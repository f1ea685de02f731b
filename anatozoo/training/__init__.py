"""How every method is trained."""
