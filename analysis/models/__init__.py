"""Analyses: one file, one analysis."""
