"""The scores that a network gives: logits, probabilities, decisions."""
