"""Cells that are no federations: games, allocations and markets whose rows a report shows."""
