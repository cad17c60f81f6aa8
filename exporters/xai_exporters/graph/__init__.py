"""What every later room builds with: reading, writing, measuring and naming the nodes of an ONNX graph."""
