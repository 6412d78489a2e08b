"""Ratchet's centre: score a model on a suite, keep every score, decide whether it may pass."""
