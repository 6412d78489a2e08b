"""Checkpoints by digest, the promoted versions of each line, and what may be deleted."""
