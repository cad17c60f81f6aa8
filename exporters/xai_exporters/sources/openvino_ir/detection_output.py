"""DetectionOutput, in which SSDs end in OpenVINO and Caffe: the boxes and scores that it chooses from take its place.

It decodes a box for each prior, chooses among the boxes of each class, and gives a list; no gradient passes that. With priors p and
variances v [R,4] (left, top, right, bottom) and codes c [N,R,4]:

    CORNER         corners = p + v c
    CENTER_SIZE    centre = centre_p + v c size_p        size = size_p exp(v c)        corners = centre -+ size / 2

v is 1 if the codes hold it already (`variance_encoded_in_target`). Specification: openvino.ai, operation sets, DetectionOutput-1
and -8; Liu et al. 2016 (SSD, arXiv:1512.02325), equation 2.
"""

from __future__ import annotations

from typing import Any

from xai_deploy.foundation import runtimes

from .reached import dependents
from .suppression import BACKGROUND, LEFT_OUT

_KIND = "DetectionOutput"


def give_what_is_chosen_from(model: Any) -> None:
    """Replace the outputs that one DetectionOutput gives by two: boxes [N,R,4] and scores [N,R,C], the background's among them.

    Boxes for each class, priors in pixels, scores of a second stage and classes counted without the background stay as they are,
    and have no rule.

    Args:
        model: An `openvino.Model`; it is changed, and its rt_info says so.
    """
    lists = [node for node in model.get_ordered_ops() if node.get_type_name() == _KIND]
    scores = _scores(lists[0]) if len(lists) == 1 and _is_plain(lists[0]) else None
    if scores is None:
        return
    [chosen] = lists
    boxes, after = _boxes(chosen), dependents(model, lists)
    for result in model.get_results():
        if result.get_name() in after:
            model.remove_result(result)
    results = [runtimes.openvino().opset13.result(value) for value in (boxes, scores)]
    for result, name in zip(results, ("boxes", "scores"), strict=True):
        result.output(0).get_tensor().set_names({name})
    model.add_results(results)
    model.set_rt_info(_KIND, LEFT_OUT)
    model.set_rt_info(str(chosen.get_attributes()["background_label_id"]), BACKGROUND)
    model.validate_nodes_and_infer_types()


def _is_plain(node: Any) -> bool:
    given = node.get_attributes()
    return (
        node.get_input_size() == 3
        and bool(given["share_location"])
        and bool(given["normalized"])
        and not given["decrease_label_id"]
        and node.get_input_partial_shape(2)[0] == 1
    )


def _scores(node: Any) -> Any | None:
    """[N,R,C], before they were laid out as [N, R * C]; None if C is not known."""
    flat, priors = node.get_input_partial_shape(1)[1], node.get_input_partial_shape(2)[2]
    rows = 0 if priors.is_dynamic else priors.get_length() // 4
    if not rows or flat.is_dynamic or flat.get_length() % rows:
        return None
    shape = [rows, flat.get_length() // rows]
    value = node.input_value(1)
    while value.get_node().get_type_name() in ("Reshape", "Squeeze", "Unsqueeze", "Convert"):
        value = value.get_node().input_value(0)
        sizes = [*value.get_partial_shape()] if value.get_partial_shape().rank.is_static else []
        if len(sizes) == 3 and sizes[1:] == shape:
            return value
    return _floats(node, 1, [0, *shape]).output(0)


def _boxes(node: Any) -> Any:
    """Their corners, left, top, right, bottom, as fractions of the image's sides, [N,R,4]."""
    ov, given = runtimes.openvino(), node.get_attributes()
    op = ov.opset13

    def columns(value: Any, start: int) -> Any:
        return op.slice(value, [start], [start + 2], [1], [-1])

    codes = _floats(node, 0, [0, -1, 4])
    parts = _floats(node, 2, [1, -1, node.get_input_partial_shape(2)[2].get_length()])

    def part(index: int) -> Any:  # the priors' corners, or their variances
        return op.reshape(op.gather(parts, [index], 1), [1, -1, 4], False)

    priors = part(0)
    if not given["variance_encoded_in_target"]:
        codes = op.multiply(codes, part(1))
    if "CENTER_SIZE" in given["code_type"]:
        size, half = op.subtract(columns(priors, 2), columns(priors, 0)), op.constant(0.5, ov.Type.f32)
        centre = op.multiply(op.add(columns(priors, 0), columns(priors, 2)), half)
        centre = op.add(op.multiply(columns(codes, 0), size), centre)
        away = op.multiply(op.multiply(op.exp(columns(codes, 2)), size), half)
        corners = op.concat([op.subtract(centre, away), op.add(centre, away)], -1)
    else:
        corners = op.add(priors, codes)
    return (op.clamp(corners, 0.0, 1.0) if given["clip_before_nms"] else corners).output(0)


def _floats(node: Any, place: int, shape: list[int]) -> Any:
    """An input in float32 and in another shape, in which 0 leaves a size as it is."""
    ov = runtimes.openvino()
    return ov.opset13.convert(ov.opset13.reshape(node.input_value(place), shape, True), ov.Type.f32)
