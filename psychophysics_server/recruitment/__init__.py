"""Who sends people: recruiters, their signed links, and what they tell of submissions."""
