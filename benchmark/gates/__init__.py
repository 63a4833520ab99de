"""The gate: which methods' heatmaps move to the cheat if the model uses the cheat?

>>> from benchmark.gates.moving import measured, opened
"""
