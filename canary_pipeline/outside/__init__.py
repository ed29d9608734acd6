"""What touches the world: commands, HTTP, the token, the claim, the clock."""
