"""Detectors: which outputs hold boxes and scores, and in what form; one layout per file, found by name."""
