"""Networks and image sets that exist without a download, and loaders for everyone else's."""
