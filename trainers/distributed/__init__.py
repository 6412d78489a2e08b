"""A training in several processes: ranks and sharding."""
