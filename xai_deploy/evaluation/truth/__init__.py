"""Ground truth, annotated by people: the objects' boxes from COCO, YOLO, Pascal VOC or csv files, and masks from PNG files."""

from .annotations import Box, Boxes, read_boxes
from .labels import classes_of, of_class, unknown
from .masks import Masks, read_masks
from .region import mask_region, region

__all__ = [
    "Box",
    "Boxes",
    "Masks",
    "classes_of",
    "mask_region",
    "of_class",
    "read_boxes",
    "read_masks",
    "region",
    "unknown",
]
