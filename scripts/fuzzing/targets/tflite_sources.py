"""TFLite files: the graph, its metadata, and the archive after it."""

from __future__ import annotations

from ..formats import Net, tflite
from ..reading import place, read


def seeds() -> list[bytes]:
    """A small network in float32 with labels, in int8, and with a custom operator."""
    net = Net.drawn()
    labelled = tflite.network(net, metadata=tflite.metadata([127.5], [127.5]))
    return [
        tflite.with_files(labelled, {"labels.txt": "cat\ndog\nhen\nowl\n"}),
        tflite.network(net, quantised=True),
        tflite.network(net, custom="Mine"),
    ]


def one(data: bytes) -> None:
    """Read the file.

    Raises:
        XaiError: It is refused.
    """
    read(place("tflite") / "net.tflite", data)
