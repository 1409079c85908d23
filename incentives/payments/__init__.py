"""Payment rules: pure functions of contributions, coalition values or bids."""
