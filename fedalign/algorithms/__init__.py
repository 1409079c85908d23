"""Federated algorithms: what is sent, how it is trained and merged."""
