"""Detectors: small live networks of each layout, explained against autograd and formulas."""
