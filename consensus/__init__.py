"""Consensus: edge servers agree on the next model, and anyone can check afterwards that they did."""
