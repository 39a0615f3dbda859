"""Dense networks that are trained, made of tensor networks, and healed."""
