"""PoFEL: edge servers commit, reveal and vote on models; the best one's server writes the block."""
