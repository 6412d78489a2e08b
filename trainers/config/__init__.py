"""The recipe: its YAML schema, its checks, the plan of its data."""
