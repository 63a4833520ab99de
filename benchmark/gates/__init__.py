"""The gate: which methods' heatmaps move to the cheat if the model goes by it?

>>> from benchmark.gates.moving import gate
"""
