"""Results of lm-eval, Inspect and spreadsheets, as runs."""
