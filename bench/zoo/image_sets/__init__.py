"""The image sets: one file, one set."""
