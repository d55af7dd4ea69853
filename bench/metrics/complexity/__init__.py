"""How much is there to read?"""
