"""Time and memory of a network, and lower bounds for them."""
