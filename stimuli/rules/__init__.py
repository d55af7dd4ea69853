"""A generator of visual rules: odd-one-out problems of four pictures, for people and for networks alike."""
