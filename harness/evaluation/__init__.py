"""From a model and a suite to a stored run: plan, generate, score."""
