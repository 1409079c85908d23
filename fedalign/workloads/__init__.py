"""Workloads: data, model, loss and metrics behind one contract."""
