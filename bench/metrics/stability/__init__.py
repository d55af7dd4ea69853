"""Does the explanation stay when only chance changes?"""
