"""Does one code say the same for several networks?"""
