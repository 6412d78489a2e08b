"""`ratchet train`, `ratchet recipes` and `ratchet export-model`."""
