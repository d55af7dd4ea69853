"""Does the map keep the promise of its definition: sums, sets and silent features?"""
