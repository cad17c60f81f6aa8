"""Image files through OpenCV (extra `image`): the header is read and judged before anything is decoded.

OpenCV decodes a 109 kB PNG to 5 GB if asked to, and some truncated files to a half grey picture. So size, completeness and kind of
values are read from the header first; each format has a file here. A file whose header is not understood is never decoded.

A file that ends early is noticed in every format. Any change is noticed in a PNG, and in the strips of a TIFF with deflate.
**Not noticed** is corruption in the middle of other files: JPEG, WebP, GIF, BMP, and TIFF without compression or with LZW, PackBits
or JPEG. No decoder reports it. If it matters, keep a checksum beside the file.
"""

from __future__ import annotations

from .archive import is_archive, state
from .fit import fit
from .folder import image_files
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
    "fit",
    "image_files",
    "is_archive",
    "opencv",
    "parse_range",
    "read_image",
    "state",
    "write_image",
]
