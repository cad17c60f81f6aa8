"""The tools of every later package: reading, writing, measuring and naming the nodes of an ONNX graph."""
