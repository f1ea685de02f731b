"""What models answer: one file per kind of answer."""
