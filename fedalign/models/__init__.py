"""Models as recipes: `build(input_shape, classes)` gives a fresh torch module."""
