"""The durable path of a response: a place in the study, its life cycle, and the events appended to it."""
