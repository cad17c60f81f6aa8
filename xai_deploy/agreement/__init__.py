"""Whether a deployed network agrees with a reference, or with a recording of it."""
