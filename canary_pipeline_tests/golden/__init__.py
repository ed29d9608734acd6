"""Six rollouts, kept as the folders they left: what later versions must still write and read."""
