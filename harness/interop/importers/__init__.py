"""Results of lm-eval, Inspect, EvalScope, OpenCompass, HELM, lighteval and others, as runs."""
