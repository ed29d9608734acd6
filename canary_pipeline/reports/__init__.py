"""A rollout in words, tables and pictures."""
