"""Explain the test images, score the heatmaps, and keep a record of each cell.

>>> from benchmark.measuring.harness import evaluate
"""
