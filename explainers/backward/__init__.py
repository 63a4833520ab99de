"""Backpropagate from any feature to the pixels, with special rules for ReLUs and strided layers.

`trace` records a forward pass, `backprop` backpropagates through it, and `stride_fix` defines the rules
for strided layers.
"""
