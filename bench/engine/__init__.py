"""The GPU engine: the only place that knows device, precision, batch size and memory."""
