"""A plain Flower app, as any Flower user writes one, with one of our attacks and one of our rules.

In this folder: `flwr run . --federation-config "num-supernodes=9"`; in one process: `python -m
experiments.flower_example.app`.
"""
