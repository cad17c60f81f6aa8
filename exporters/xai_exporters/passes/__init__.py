"""Passes over the source graph, one per file. `clean` runs them in order; `sources.standard_form` runs those for ONNX files."""
