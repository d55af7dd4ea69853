"""The coordinates one explains in."""
