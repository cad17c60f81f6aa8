"""The graphs of a bundle: one role for each thing that the runtime computes."""
