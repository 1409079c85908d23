"""The federation: the round, who takes part, and where client work happens. Start with round.py."""
