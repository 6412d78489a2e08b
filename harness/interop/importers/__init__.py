"""Results of lm-eval, Inspect, EvalScope and spreadsheets, as runs."""
