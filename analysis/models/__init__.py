"""Analyses: one file, one analysis; the folder is the registry."""

from bench.registry import Registry

ANALYSES = Registry("analysis", "analysis.models")
