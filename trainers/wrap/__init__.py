"""The gate around what others train: a Trainer of one's own, or a folder that a job writes."""
