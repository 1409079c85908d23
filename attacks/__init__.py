"""Attacks: one attack, one file."""
