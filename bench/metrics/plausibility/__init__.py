"""Are the atoms directions that the network reads?"""
