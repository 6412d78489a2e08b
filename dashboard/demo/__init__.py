"""`ratchet demo-data`: a synthetic history for trying the dashboard. No model was ever asked."""
