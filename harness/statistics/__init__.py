"""The gate's mathematics: pure functions over arrays. No file, no clock, no network."""
