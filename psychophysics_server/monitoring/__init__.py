"""Whether all is well: where a study stands, the recount of what is held, metrics and logs."""
