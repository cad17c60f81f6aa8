"""What is read between pixels or from patches: grids, regions, deformed kernels, patches as channels and back."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ....graph.emit import Ops
from ....passes.fused.sampling import Deformed, deformed
from ..layer import Layer, rule
from .convolution import pads_of

_PLACES = {"asymmetric": "output_half_pixel", "half_pixel_for_nn": "half_pixel"}


@rule("GridSample")
def grid_sample(op: Ops, layer: Layer) -> ir.Value:
    """Pixels at the places of a grid, from -1 to 1."""
    mode, border = (str(layer.attr(name)).lower() for name in ("mode", "padding_mode"))
    corners = int(bool(layer.attr("align_corners", False)))
    return op.GridSample(layer.x(0), layer.x(1), mode=mode, padding_mode=border, align_corners=corners)


@rule("ROIAlign")
def roi_align(op: Ops, layer: Layer) -> ir.Value:
    """Regions [r,4], of the images with numbers [r], as maps [r,C,h,w] of one size (ROIAlign-3, -9)."""
    places = str(layer.attr("aligned_mode", "asymmetric")).lower()
    mode = str(layer.attr("mode")).lower()
    if places not in _PLACES or mode != "avg":  # of the maximum runtimes have two definitions
        raise layer.refuse(f"reads regions in the modes {mode}, {places}, which ONNX's RoiAlign does not have")
    return op.RoiAlign(
        layer.x(0),
        layer.x(1),
        layer.int64(op, 2),
        mode=mode,
        output_height=int(layer.attr("pooled_h")),
        output_width=int(layer.attr("pooled_w")),
        sampling_ratio=int(layer.attr("sampling_ratio")),
        spatial_scale=float(layer.attr("spatial_scale")),
        coordinate_transformation_mode=_PLACES[places],
    )


@rule("DeformableConvolution")
def deformable_convolution(op: Ops, layer: Layer) -> ir.Value:
    """The kernel reads at places that are moved by offsets, and weighs them by a mask (Zhu et al. 2019, arXiv:1811.11168).

    Without `bilinear_interpolation_pad`, places beyond the image read nothing, and the last row is not mixed with what lies beyond.
    """
    if not layer.attr("bilinear_interpolation_pad", False):
        raise layer.refuse(
            "reads beyond the image in OpenVINO's own way (bilinear_interpolation_pad false); convert the model with true, as "
            "torchvision and ONNX define it"
        )
    kernel, strides, dilations = layer.sizes(2, 2), list(layer.attr("strides")), list(layer.attr("dilations"))
    form = Deformed(
        sizes=tuple(layer.sizes(0, 1)),
        out=layer.sizes(2)[0],
        kernel=tuple(kernel),
        places=tuple(layer.sizes(1, 2)),
        strides=tuple(strides),
        pads=tuple(pads_of(layer, kernel, strides, dilations)),
        dilations=tuple(dilations),
        groups=int(layer.attr("group", 1)),
        parts=int(layer.attr("deformable_group", 1)),
    )
    return deformed(op, form, layer.x(0), layer.x(2), layer.x(1), layer.x(3) if len(layer) > 3 else None)


@rule("ExtractImagePatches")
def patches(op: Ops, layer: Layer) -> ir.Value:
    """Each patch [kh,kw] of all channels becomes the channels [kh,kw,C] of one position: a convolution that copies."""
    kernel, strides, rates = ([int(v) for v in layer.attr(name)] for name in ("sizes", "strides", "rates"))
    channels, taps = layer.sizes(0, 1)[0], kernel[0] * kernel[1]
    copies = np.tile(np.eye(taps, dtype=np.float32).reshape(taps, 1, *kernel), (channels, 1, 1, 1))
    y = op.Conv(
        layer.x(), copies, group=channels, strides=strides, dilations=rates, pads=pads_of(layer, kernel, strides, rates)
    )
    height, width = layer.out_sizes(2)
    parts = op.Transpose(op.Reshape(y, [0, channels, taps, height, width]), perm=[0, 2, 1, 3, 4])
    return op.Reshape(parts, [0, taps * channels, height, width])


@rule("Col2Im")
def columns_to_image(op: Ops, layer: Layer) -> ir.Value:
    """The sum of patches at their places."""
    numbers = {name: [int(v) for v in layer.attr(name)] for name in ("strides", "dilations")}
    pads = [int(v) for end in ("pads_begin", "pads_end") for v in layer.attr(end)]
    size, kernel = (np.array(layer.ints(i, "sizes")) for i in (1, 2))
    return op.Col2Im(layer.x(), size, kernel, pads=pads, **numbers)
