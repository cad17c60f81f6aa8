"""Where in the image each element of a tensor lies, followed through the graph; decides what is a feature map.

`strand` holds the coordinates and their arithmetic, `rules` what each operator does to them, `trace` the walk.
"""
