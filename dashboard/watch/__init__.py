"""Where a served model's observations come in, and the verbs that watch it."""
