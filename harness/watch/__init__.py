"""A promoted model in production: intake of traffic, monitoring, rollout, feedback."""
