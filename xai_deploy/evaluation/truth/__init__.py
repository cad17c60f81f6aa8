"""Ground truth, annotated by people: the objects' boxes from COCO, YOLO, Pascal VOC or csv files, and masks from PNG files."""

from .annotations import Box, Boxes, read_boxes
from .labels import class_given, classes_of, of_class, unknown
from .masks import Masks, read_masks
from .region import MATCH, mask_region, matching_box, region

__all__ = [
    "MATCH",
    "Box",
    "Boxes",
    "Masks",
    "class_given",
    "classes_of",
    "mask_region",
    "matching_box",
    "of_class",
    "read_boxes",
    "read_masks",
    "region",
    "unknown",
]
