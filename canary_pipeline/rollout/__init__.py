"""What a rollout is: plan, gates, cohorts, evidence, decision. Knows nothing of Dagster."""
