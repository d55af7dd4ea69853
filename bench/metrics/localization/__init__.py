"""Does the map point at the place that is known?"""
