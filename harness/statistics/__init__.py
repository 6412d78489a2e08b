"""The mathematics of the gate: pure functions over arrays."""
