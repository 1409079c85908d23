"""Allocations nobody optimised, to compare with; one per file."""
