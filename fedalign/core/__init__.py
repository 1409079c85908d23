"""What everything stands on: contracts, vectors, seeds, digests, log, threat model, errors."""
