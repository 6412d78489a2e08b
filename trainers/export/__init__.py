"""A checkpoint as a model to publish: merged, quantized, with its card."""
