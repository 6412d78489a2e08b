"""Turns failures in production into rows to train and test on."""
