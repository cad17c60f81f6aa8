"""Writing a bundle: its manifest, its files in one move, and the check against the source."""
