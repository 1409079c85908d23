"""Cooperative games whose Shapley values are known."""

import math

import numpy as np


def glove(s):
    """0 and 1 hold left gloves, 2 a right one: a pair is worth 1."""
    return float(2 in s and (0 in s or 1 in s))


def majority(weights, quota):
    return lambda s: float(sum(weights[i] for i in s) >= quota)


def logarithm(data):
    """ln(1 + all data of S): the more others have, the less one adds."""
    return lambda s: math.log1p(sum(data[i] for i in s))


def table(n, seed):
    """Any game at all: a random number per coalition, also for the empty one."""
    values = np.random.default_rng(seed).standard_normal(2**n)
    return lambda s: float(values[sum(1 << i for i in s)])
