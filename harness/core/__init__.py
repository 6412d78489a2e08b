"""What every package may use and what knows nothing of the rest: errors, files, digests, locks."""
