"""Training data as versions: rows through pure steps, each drop with its reason."""
