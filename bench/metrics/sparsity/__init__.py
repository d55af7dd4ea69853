"""How few atoms speak at once?"""
