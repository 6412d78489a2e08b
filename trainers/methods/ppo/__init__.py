"""Proximal policy optimization, with its value head and rollouts."""
