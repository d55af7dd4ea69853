"""Protocols of human experiments: one file, one protocol."""
