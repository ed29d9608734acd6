"""What is live in staging: seen, applied, rolled back, left behind."""
