"""The local loop: one client after the other, or a block of clients at once."""
