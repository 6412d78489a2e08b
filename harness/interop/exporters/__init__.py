"""Runs as MLflow, W&B, TensorBoard and model-card entries."""
