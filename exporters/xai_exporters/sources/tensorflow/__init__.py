"""What of TensorFlow's files is needed beside OpenVINO's reader: the names of nodes.

messages.py     the fields of its messages
exposed.py      a SavedModel whose functions give all their tensors
"""
