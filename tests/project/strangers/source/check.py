"""The bundle's graphs are those of the ONNX file itself."""

import base64
from pathlib import Path

from xai_exporters import Request, export

Path("net.txt").write_bytes(b"onnx as text\n" + base64.b64encode(Path("net.onnx").read_bytes()))
done = export(Request(Path("net.txt"), preprocess="none", output_path=Path("text.xai")))
assert done.kind == "ONNX as text"
for graph in ("head", "tail", "gradient"):
    assert Path(f"text.xai/{graph}.onnx").read_bytes() == Path(f"net.xai/{graph}.onnx").read_bytes(), graph
