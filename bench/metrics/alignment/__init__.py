"""Does the map point at what people use?"""
