"""OpenVINO IR -> ONNX. OpenVINO reads the file and types every node in a child process; a table of rules translates the nodes.

rules/          the rules, one file per family of operators
translate.py    the walk over the nodes
child.py        the process that reads a file that may come from a stranger
parent.py       starts it
"""
