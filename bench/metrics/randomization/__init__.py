"""Does the explanation depend on what the network has learned, and on the class it is asked about?"""
