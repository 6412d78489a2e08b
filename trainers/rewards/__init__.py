"""Rewards that reinforcement learning maximizes, and what keeps them honest."""
