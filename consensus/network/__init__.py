"""Networks: what carries messages between servers; cores cannot tell them apart."""
