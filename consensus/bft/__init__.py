"""Byzantine fault tolerant ordering: a Tendermint-style core and the tools that judge it."""
