"""Train a segment, score it, ask the gate, keep it or roll back."""
