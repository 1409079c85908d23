"""Pre-aggregation: wrappers that mix or clip the rows before any rule."""
