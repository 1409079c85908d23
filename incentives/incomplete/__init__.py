"""Games in which types are known only by their distribution."""
