"""The commands of `limen study`, by what they work on."""
