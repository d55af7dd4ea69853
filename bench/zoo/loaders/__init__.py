"""Loaders for everyone else's networks: one file, one prefix."""
