"""Does a dictionary find the factors that made the data?"""
