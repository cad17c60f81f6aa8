"""The tail at one position of the layer at a time, computed only in the window that this position can change."""
