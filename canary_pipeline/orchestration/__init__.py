"""The Dagster skin of a rollout: assets, ops, checks, executor, schedule. It decides nothing."""
