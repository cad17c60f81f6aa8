"""The rules, one file per family of operators. `@rule("Type")` over a function `(op, layer) -> value`, or several values."""
