"""Runtimes: where client work happens. Same tasks, same rows, whichever runtime."""
