"""Frozen stimulus sets and protocols."""
