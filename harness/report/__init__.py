"""A verdict for whoever reads it: terminal, pull request, CI, programs."""
