"""Turbo (Mikhailov 2019, Apache-2.0): a rainbow of even steps. Its lightness rises and falls, so it is no good in grey."""

from __future__ import annotations

from .colormap import colormaps, sequential

colormaps.register("turbo")(
    sequential(
        "30123b 392972 4040a1 4456c7 466be3 467ff6 4193fe 36a7f9 28baec 1cccd8 17dbc3 1ee8b0 31f198 4cf97e "
        "6bfd63 89fe4c a2fc3c b7f635 cbec33 dedf36 ecd039 f7bf39 fcad34 fe972c fb7f22 f56717 ec520e e04008 "
        "d23005 c02302 ac1601 940c01 7a0402"
    )
)
