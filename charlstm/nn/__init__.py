"""The network, its parameters and its optimizers, in NumPy alone."""
