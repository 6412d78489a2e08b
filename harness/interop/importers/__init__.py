"""Results of lm-eval, Inspect, EvalScope, promptfoo and spreadsheets, as runs."""
