"""Feature visualisations: one file, one method."""
