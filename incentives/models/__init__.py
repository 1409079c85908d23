"""Follower models and leaders: one game is one file."""
