"""fedalign: federated, blockchain-secured alignment research in one simulator."""

__version__ = "0.1.0"
