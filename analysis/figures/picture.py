"""A figure as bytes, as `bench.picture` makes them, under the name that figures of studies use."""

from __future__ import annotations

from bench.picture import Picture, render

__all__ = ["Picture", "render"]
