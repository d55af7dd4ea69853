"""How the procedural pictures are drawn: distance fields, smooth noise, and nothing that depends on the size."""
