"""Partitions: who holds what. One way of cutting, one file; each returns row indices per client."""
