"""Gradient rules: operator -> vector-Jacobian product, one file per family of operators.

With L any scalar behind the operator y = f(x), dy stands for dL/dy, and a rule returns dx = dL/dx. `rules` says how a rule
is written; `table` holds them. Every rule is tested against central differences in float64 and against torch.
"""
