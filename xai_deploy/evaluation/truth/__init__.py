"""Ground truth, told by people: the objects' boxes from COCO, YOLO, Pascal VOC or csv files, and masks from PNG files."""

from .base import Box, Boxes, read_boxes
from .masks import Masks, read_masks
from .region import mask_region, region

__all__ = ["Box", "Boxes", "Masks", "mask_region", "read_boxes", "read_masks", "region"]
