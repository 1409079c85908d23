"""Defenses: one rule, one file."""
