"""Heuristics for multiple task allocation, one per file."""
