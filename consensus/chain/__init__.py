"""Chain: an EVM per edge server, whose blocks count once enough servers have sealed them."""
