"""Ensembles: several networks in one checkpoint, whose mean probability counts."""
