"""RPC: any Ethereum client may read the chain and hand in signed transactions."""
