"""Decides from production traffic whether a served model got worse."""
