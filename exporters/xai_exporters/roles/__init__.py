"""The graphs of a bundle: one role for each graph that the runtime runs."""
