"""Layer-wise relevance propagation (Bach et al. 2015) on ONNX graphs.

Three separate ideas: a *rule* (`layer_rules`, `fixed_rules`) says how relevance passes one operator; a *composite*
(`composite`, TOML files) says which rule holds where; a *canonizer* (`merge_batchnorm`) rewrites the graph beforehand. The
other modules hold what operators do by themselves, one per family.
"""
