"""The places where a network can be cut, and the scores in it that can be explained."""
