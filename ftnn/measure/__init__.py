"""Time and memory of a network, and the floor below them."""
