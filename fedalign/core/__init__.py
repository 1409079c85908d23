"""What everything stands on: contracts, vectors, seeds, digests, the log, the threat model, errors."""
