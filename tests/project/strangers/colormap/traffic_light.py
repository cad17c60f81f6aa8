"""A stranger's colour map."""

from xai_deploy.pictures.colormaps.colormap import colormaps, sequential

colormaps.register("traffic-light")(sequential("ff0000 ffff00 00ff00"))
