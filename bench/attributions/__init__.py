"""Attribution methods: one file, one method."""
