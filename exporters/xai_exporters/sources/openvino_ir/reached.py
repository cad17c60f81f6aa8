"""What a node of an OpenVINO model depends on."""

from __future__ import annotations

from typing import Any


def reads(result: Any, chosen: Any) -> bool:
    """Whether a result depends on what another node gives."""
    pending, seen = [result], {result.get_name()}
    for node in pending:
        if node.get_name() == chosen.get_name():
            return True
        before = [node.input_value(i).get_node() for i in range(node.get_input_size())]
        pending += [one for one in before if one.get_name() not in seen]
        seen |= {one.get_name() for one in before}
    return False
