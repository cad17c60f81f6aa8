"""Image files through OpenCV (extra `image`): the header is read and judged before anything is decoded.

OpenCV decodes a 109 kB PNG to 5 GB if asked to, and some truncated files to a half grey picture. So size, completeness and
kind of values come from the header first, by one file per format; only what is understood there is decoded.

Noticed is: a file that ends early, in every format; any change in a PNG and in the strips of a TIFF with deflate. **Not
noticed** is corruption in the middle of other files: a JPEG, WebP, GIF or BMP, or a TIFF that is not compressed or by LZW,
PackBits or JPEG. No decoder tells of it; where it matters, keep a checksum beside the file.
"""

from __future__ import annotations

from .module import opencv
from .read import MAX_PIXELS, SUFFIXES, read_image
from .scale import InputRange, parse_range
from .write import Pixels, encode_image, write_image

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "InputRange",
    "Pixels",
    "encode_image",
    "opencv",
    "parse_range",
    "read_image",
    "write_image",
]
