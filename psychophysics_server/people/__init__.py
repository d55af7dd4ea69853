"""What becomes of a person: rows and checks derived from their events, the end, decisions, pay and erasure."""
