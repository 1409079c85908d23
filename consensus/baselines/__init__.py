"""Ordering protocols to compare with, one per file; all have the surface of `Orderer`."""
