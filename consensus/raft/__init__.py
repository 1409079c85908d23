"""Raft: crash-tolerant ordering as a machine without I/O, its log on disk, and its simulator."""
