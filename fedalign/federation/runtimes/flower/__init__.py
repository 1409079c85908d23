"""Flower: client work as messages between a ServerApp and ClientApps, on Flower's own engines."""
