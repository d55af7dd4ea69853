"""Simulated people: a stated psychometric model that takes a study over HTTP as a browser would."""
