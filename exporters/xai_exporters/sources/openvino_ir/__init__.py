"""What OpenVINO reads (IR, TFLite, TensorFlow, PaddlePaddle) -> ONNX. It types every node in a child process; a table of rules
translates the nodes.

rules/          the rules, one file per family of operators
translate.py    the walk over the nodes
names.py        the names of nodes that OpenVINO's readers lose
tensors.py      a file with all its tensors as outputs
child.py        the process that reads a file that may come from a stranger
unread.py       why OpenVINO could not read it
parent.py       starts it
given.py        the file that is given to it
network.py      the file as a trained network, and its reference
"""
