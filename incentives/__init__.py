"""Games, prices, allocations and payments: who is paid for what, and a certificate with each answer."""
