"""Results of other tools in and out; hooks for pytest and pre-commit."""
