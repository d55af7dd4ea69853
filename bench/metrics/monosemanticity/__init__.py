"""Are the images that one atom answers to alike?"""
