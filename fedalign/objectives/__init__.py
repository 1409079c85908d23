"""Alignment objectives: log-probabilities or scores in, losses out; no model, no files."""
