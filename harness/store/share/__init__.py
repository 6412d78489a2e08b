"""What is measured, sent to a place that a team shares, and taken from it."""
