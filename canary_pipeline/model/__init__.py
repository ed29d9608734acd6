"""What a rollout is, as data and rules: pure, and knows nothing of the world."""
