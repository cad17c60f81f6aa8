"""Live detectors and what they cost: the parts of scripts/check_detectors."""
