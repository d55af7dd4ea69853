"""Measures of people and methods: agreement and reliability, psychophysics, preference, rankings. Arrays in, numbers out."""
