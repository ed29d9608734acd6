"""The command `canary-rollout`: one file a command."""
