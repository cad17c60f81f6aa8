"""Operators on images, sequences and attention, whose sizes come from several inputs."""

from __future__ import annotations

import math

from .layout import whole
from .rules import Call, Known, Unknowable, exact, rule, single


@rule("GridSample")
def grid_sample(call: Call) -> list[Known]:
    x, grid = call[0], call[1]
    return [Known((*x.shape[:2], *grid.shape[1:-1]), x.size, exact=exact(x, grid))]


@rule("AffineGrid")
def affine_grid(call: Call) -> list[Known]:
    sizes = whole(call.values(1), call)
    if len(sizes) not in (4, 5) or min(sizes) < 0:
        raise Unknowable(f"{call.node} makes a grid of the sizes {sizes[:16]}")
    return [Known((sizes[0], *sizes[2:], len(sizes) - 2), call[0].size)]


@rule("RoiAlign")
def roi_align(call: Call) -> list[Known]:
    x, rois = call[0], call[1]
    shape = (*rois.shape[:1], *x.shape[1:2], call.number("output_height", 1), call.number("output_width", 1))
    return [Known(shape, x.size, exact=exact(x, rois))]


@rule("MaxRoiPool")
def max_roi_pool(call: Call) -> list[Known]:
    x, rois = call[0], call[1]
    return [Known((*rois.shape[:1], *x.shape[1:2], *(call.ints("pooled_shape") or [])), x.size, exact=exact(x, rois))]


@rule("LRN")
def lrn(call: Call) -> list[Known]:
    """ONNX Runtime squares one image at a time, with as many zeros around its channels as the window reaches beyond them."""
    x = call[0]
    padded = x.shape[1] + max(call.number("size", 1), 1) - 1
    return [Known(x.shape, x.size, exact=x.exact, scratch=padded * math.prod(x.shape[2:]) * single(x))]


@rule("LSTM", "GRU", "RNN")
def recurrent(call: Call) -> list[Known]:
    x, weight = call[0], call[2]
    if len(x.shape) != 3 or len(weight.shape) != 3:
        raise Unknowable(f"{call.node} takes an input {list(x.shape)}")
    directions, _, hidden = weight.shape
    steps, batch = x.shape[:2]
    shapes = (steps, directions, batch, hidden), (directions, batch, hidden)
    if call.number("layout", 0):  # 1: the batch comes first
        batch, steps = x.shape[:2]
        shapes = (batch, steps, directions, hidden), (batch, directions, hidden)
    y, state = (Known(shape, x.size, exact=x.exact) for shape in shapes)
    return [y, state, state][: len(call.node.outputs)]


@rule("Attention")
def attention(call: Call) -> list[Known]:
    """Queries [b,heads,q,d] or [b,q,heads*d]; keys and values likewise. Past keys and values come before them."""
    q, k, v = call[0], call[1], call[2]
    heads, kv_heads = call.number("q_num_heads", 0), call.number("kv_num_heads", 0)
    if len(q.shape) == 3:
        if heads < 1 or kv_heads < 1:
            raise Unknowable(f"{call.node} does not say how many heads it has")
        q, k, v = (_heads(x, n) for x, n in ((q, heads), (k, kv_heads), (v, kv_heads)))
    if not len(q.shape) == len(k.shape) == len(v.shape) == 4:
        raise Unknowable(f"{call.node} takes queries {list(q.shape)}")
    before = call.get(4)  # past_key [b,heads,past,d]
    past = before.shape[2] if before is not None and len(before.shape) == 4 else 0
    rows, columns, is_exact = q.shape[2], k.shape[2] + past, exact(*call.inputs)
    shape = (q.shape[0], q.shape[1], rows, v.shape[3])
    if len(call[0].shape) == 3:
        shape = (q.shape[0], rows, q.shape[1] * v.shape[3])  # type: ignore[assignment]
    kept = [Known((*x.shape[:2], columns, x.shape[3]), q.size, exact=is_exact) for x in (k, v)]
    scores = Known((*q.shape[:3], columns), q.size, exact=is_exact)
    # Runtimes compute the scores, asked for or not, and a mask of floats.
    beside = scores.count * single(q) if len(call.node.outputs) < 4 else 0
    if call.get(3) is not None or call.number("is_causal", 0):
        beside += max(rows * columns, call[3].count if call.get(3) is not None else 0) * 4
    y = Known(shape, q.size, exact=is_exact, scratch=beside)
    return [y, *kept, scores][: len(call.node.outputs)]


def _heads(x: Known, heads: int) -> Known:
    return x.like((x.shape[0], heads, x.shape[1], x.shape[2] // heads)) if len(x.shape) == 3 else x
