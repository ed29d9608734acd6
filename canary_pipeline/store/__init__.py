"""Where a rollout is kept: files, rows, and what proves that they are as they were written."""
