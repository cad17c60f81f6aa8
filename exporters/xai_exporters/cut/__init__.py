"""Where a network can be cut, and what is explained in it."""
