"""What a cohort is judged by: one file a check."""
