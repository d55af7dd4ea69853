"""Ways to fit a dictionary: one file, one way."""
