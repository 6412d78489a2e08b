"""From a model's name to its files, and the digest of their bytes."""
