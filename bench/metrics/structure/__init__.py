"""How do the atoms lie to each other, to the data, and in the picture?"""
