"""One file a training method: a thin layer over TRL."""
