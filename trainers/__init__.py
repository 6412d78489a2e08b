"""Recipes to gated trainings: train a segment, score the checkpoint, go on or roll back."""
