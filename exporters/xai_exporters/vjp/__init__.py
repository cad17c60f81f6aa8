"""Gradient rules: operator -> vector-Jacobian product, one file per family of operators.

Let L be a scalar that is computed from the output of an operator y = f(x). Then dy stands for dL/dy, and a rule returns
dx = dL/dx. `backward.rules` says how a rule is written; `table` holds the rules. Every rule is
tested against central differences in float64 and against torch.
"""
