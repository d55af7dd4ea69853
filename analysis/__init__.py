"""Statistical reports on explanations and the people who used them."""
