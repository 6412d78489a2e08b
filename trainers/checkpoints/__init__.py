"""Checkpoint folders, and the state that a training resumes from."""
