"""Sends traffic to a new version step by step, and takes it back."""
