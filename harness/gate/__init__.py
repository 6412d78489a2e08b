"""From two runs' scores to a verdict: pure functions, without a store, a model or a clock."""
