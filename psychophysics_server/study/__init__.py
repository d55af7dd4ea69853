"""The study that is served: its frozen stimuli, its factors, its plan, and the version of its consent."""
