"""Results of models: one file per kind of answer."""
