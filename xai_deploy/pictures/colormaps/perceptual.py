"""Perceptually uniform colour maps of matplotlib: lightness rises evenly, so they also read in grey and with any colour vision.

viridis, inferno, magma and plasma: Smith and van der Walt 2015 (CC0). cividis: Nuñez, Anderton and Renslow 2018 (CC0), made to look
the same with and without red-green colour blindness.
"""

from __future__ import annotations

from .colormap import colormaps, sequential

colormaps.register("cividis")(
    sequential(
        "00224d 00285b 002d69 043270 1a386f 273d6d 31436c 3a486b 434e6b 4b546c 52596c 595f6d 61646f 686a70 "
        "6e7073 757575 7c7b78 838078 8a8678 928c77 9a9376 a29974 aa9f72 b2a66f baac6c c3b368 cbba64 d4c15e "
        "dcc858 e5cf50 eed747 f8de3b fde737"
    )
)

colormaps.register("inferno")(
    sequential(
        "000003 030212 0a0723 140b36 200c4a 2e0a5a 3c0965 4a0b6a 560f6d 63146e 6f196e 7c1d6c 892269 962666 "
        "a22b61 af315b ba3654 c63d4d d04544 da4e3b e35932 ea6428 f0711e f57f13 f98c09 fb9b06 fbaa0e fbb91e "
        "f8c931 f5d948 f1e864 f2f485 fcfea4"
    )
)

colormaps.register("magma")(
    sequential(
        "000003 030311 0a0722 120d33 1c1046 281159 350f6a 430f75 50127b 5c177e 691c80 752181 822581 8e2a80 "
        "9b2e7f a8327c b63679 c23a75 cf4070 db4769 e55063 ee5c5e f4695b f8785c fb8660 fd9567 fda470 feb37b "
        "fec286 fdd193 fddfa1 fceeb0 fbfcbf"
    )
)

colormaps.register("plasma")(
    sequential(
        "0c0786 21058f 310496 3f039c 4c02a1 5901a4 6500a7 7200a8 7e03a7 8908a5 9411a1 9f1a9b a92395 b22c8e "
        "bb3586 c33e7f ca4678 d14f71 d8586a df6163 e56b5c ea7555 ef7f4e f48947 f79441 fa9f3a fcaa33 fdb62d "
        "fdc328 fbd024 f8dd24 f4ea26 eff821"
    )
)

colormaps.register("viridis")(
    sequential(
        "440154 460c5f 47186a 482273 472c7b 453681 424085 3e4989 3a528b 365a8c 32628d 2f6a8d 2c728e 287a8e "
        "26818e 23898d 20908c 1e978a 1e9e88 21a685 27ad80 31b47a 3dbb74 4cc26c 5cc862 6ece58 81d34c 95d73f "
        "aadb32 bfdf24 d4e11a e9e419 fde724"
    )
)
