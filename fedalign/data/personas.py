"""Personas: a client of a population as a paragraph, and as someone who prefers answers.

Paper: Pan et al., "Very Large-Scale Multi-Agent Simulation in AgentScope", arXiv 2407.17789
(backgrounds from attributes; here a seeded template in place of a model's text).
"""

from __future__ import annotations

import numpy as np

from fedalign.core.errors import ConfigError
from fedalign.core.seeds import Seeds
from fedalign.data.population import Population

QUALITIES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_OPENINGS = ("Client {i} works", "Client {i} lives", "You meet client {i}")


def background(population: Population, client: int) -> str:
    """One paragraph that says a client's columns; the same for the same population and client."""
    rng = Seeds(population.seed).at("background", client=client)
    lines = [_OPENINGS[rng.integers(len(_OPENINGS))].format(i=client)]
    columns = population.columns
    if "region" in columns:
        lines[0] += f" in the {population.values('region')[columns['region'][client]]}"
    if "device_class" in columns:
        device = population.values("device_class")[columns["device_class"][client]]
        lines[0] += f" with a {device}"
    if "p_online" in columns:
        lines.append(f"It answers {columns['p_online'][client]:.0%} of the time")
    if "n_samples" in columns:
        lines.append(f"It holds {columns['n_samples'][client]} samples")
    if "pref_weights" in columns:
        most = int(columns["pref_weights"][client].argmax())
        lines.append(f"In an answer it values {QUALITIES[most]} most")
    return ". ".join(lines) + "."


def preference(
    population: Population, client: int, first: np.ndarray, second: np.ndarray, tau: float = 1.0
) -> np.ndarray:
    """Probability (n,) that a client labels the first answer the better one.

    first, second: (n, 5) grades in the order of QUALITIES. tau: > 0, how undecided it is.
    (1 - e) sigmoid(w . (s_a - s_b) / tau) + e (1 - sigmoid(...)), e its label noise.
    """
    if not tau > 0:
        raise ConfigError(f"tau must be above 0, got {tau}.")
    weights = population.columns["pref_weights"][client].astype(np.float64)
    clean = 1.0 / (1.0 + np.exp(-((first - second) @ weights) / tau))
    noise = float(population.columns["label_noise"][client])
    return (1 - noise) * clean + noise * (1 - clean)
