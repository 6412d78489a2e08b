"""The harness's verbs, one file a family: parse, call, print. Heavy imports stay in the bodies."""
