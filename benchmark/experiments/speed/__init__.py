"""Benchmarks: each times a part of the project and a named alternative in one run."""
