"""Rows to score on: files, prompt templates, other people's benchmarks, near duplicates."""
