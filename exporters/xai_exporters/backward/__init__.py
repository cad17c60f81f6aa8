"""One walker over a graph, from its outputs back to its inputs, and the tables of rules that it follows."""
