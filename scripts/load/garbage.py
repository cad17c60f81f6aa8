"""Malformed requests: whether a server answers any of them with 5xx, and whether its memory grows."""
