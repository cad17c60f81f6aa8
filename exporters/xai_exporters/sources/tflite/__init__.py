"""What a TFLite file says of itself.

flatbuffer.py   bounded reading of FlatBuffers
model.py        the file's tensors, its custom operators and its metadata
readable.py     a copy of the file that OpenVINO's reader can read
options.py      numbers in the options of custom operators
custom.py       custom operators in OpenVINO's
metadata.py     class names and normalisation, as TensorFlow Lite Support writes them
"""
