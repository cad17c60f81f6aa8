"""Diverging colour maps: blue or purple below 0, a light neutral colour at 0, red or orange above; safe with red-green blindness.

coolwarm: Moreland 2009. RdBu_r and PuOr_r: Brewer 2002 (Apache-2.0), reversed as in matplotlib.
"""

from __future__ import annotations

from .colormap import colormaps, diverging

colormaps.register("coolwarm")(
    diverging(
        "3a4cc0 435acc 4d67d7 5775e1 6182ea 6c8ef1 779af6 82a5fb 8caffd 98b9fe a3c1fe adc9fc b8cff8 c2d4f3 "
        "cbd8ed d4dbe5 dcdcdc e4d8d1 ebd3c5 f0ccb9 f4c4ac f6bba0 f7b193 f6a587 f49a7a f08d6f eb7f63 e57057 "
        "dd604c d44f42 ca3d38 bf282e b30326"
    )
)

colormaps.register("PuOr_r")(
    diverging(
        "2d004b 390c5e 451871 512484 5f3a91 6d529c 7a69a7 897db3 988ebe a8a0ca b6b0d5 c2bfdd cecee5 dadceb "
        "e3e5ef edeef3 f6f6f6 f9f0e2 fbe9ce fde1ba fdd6a1 fdc987 fdbc6d f7ad54 ee9c3b e58c22 da7d12 cc6f0d "
        "be6209 af5606 9f4d06 8f4407 7f3b08"
    )
)

colormaps.register("RdBu_r")(
    diverging(
        "053061 0d4078 165190 1f62a7 2971b1 347fb9 3f8dc0 519cc8 6aacd0 83bbd9 99c9e0 add3e6 c1ddeb d3e6f0 "
        "dfecf2 ebf1f4 f6f6f6 f8eee8 fae5d8 fcddc9 facdb5 f8bca0 f5ab8a ee9777 e58267 db6c57 d15649 c6403e "
        "bb2a33 ad162a 960f26 7e0722 67001f"
    )
)
