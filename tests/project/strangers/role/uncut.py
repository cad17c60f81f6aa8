"""A stranger's role: the network in one piece."""

from xai_exporters.roles.role import Kind, Role, kinds

kinds.register("uncut")(Kind(place=60, roles=lambda request: (Role("uncut", lambda m: m.whole, "image"),)))
