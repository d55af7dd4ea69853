"""Metrics in folders by the question they answer: one file, one metric."""
