"""What a TFLite file says of itself.

flatbuffer.py   bounded reading of FlatBuffers
model.py        the file's tensors, its custom operators and its metadata
metadata.py     class names and normalisation, as TensorFlow Lite Support writes them
"""
