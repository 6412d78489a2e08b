"""A synthetic history to try the dashboard on."""
