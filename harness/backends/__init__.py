"""Ways to ask a model: transformers, vLLM, a server that speaks the OpenAI API, Ray replicas."""
