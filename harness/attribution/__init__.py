"""What of one question moved an answer: the classical explainers, for a pair of models."""
