"""TensorFlow's graphs and SavedModels."""

from __future__ import annotations

from ..formats import Net, tensorflow
from ..reading import place, read


def seeds() -> list[bytes]:
    """A small network as a frozen graph and as a saved_model.pb, and one with an operator that nobody knows."""
    net = Net.drawn()
    return [tensorflow.graph(net), tensorflow.saved_model(net), tensorflow.graph(net, "Mine")]


def one(data: bytes) -> None:
    """Read the file under the name that fits.

    Raises:
        XaiError: It is refused.
    """
    read(place("tensorflow") / ("saved_model.pb" if data[:1] == b"\x08" else "net.pb"), data)
