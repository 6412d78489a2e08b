"""A suite: its YAML, its schema, its tasks."""
