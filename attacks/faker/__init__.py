"""Faker: rescale one's own honest model group by group, so that what a rule measures stays put.

Paper: Wang et al., "Can We Trust the Similarity Measurement in Federated Learning?", arXiv 2311.03369.
"""

from attacks.faker.faker import Faker

__all__ = ["Faker"]
