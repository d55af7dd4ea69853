"""The export: rows as files that a reader needs nothing else to understand."""
