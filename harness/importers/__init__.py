"""Scores that others measured become runs: lm-eval's, Inspect's, or a plain CSV's."""
