"""The position in the image of each element of a tensor, followed through the graph; it decides what is a feature map.

`strand` holds the coordinates and their arithmetic, `rules` holds what each operator does to them, and `trace` is the walk.
"""
