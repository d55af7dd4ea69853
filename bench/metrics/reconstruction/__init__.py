"""How much of the activations does a dictionary keep?"""
