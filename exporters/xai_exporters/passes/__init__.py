"""Passes over the source graph, one per file; `pipeline.clean` runs them in order."""
