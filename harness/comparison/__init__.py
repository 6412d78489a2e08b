"""From two stored runs to a stored verdict."""
