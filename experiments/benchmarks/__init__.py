"""Speed against peers: each measurement is a scenario, each number a ratio from one run."""
