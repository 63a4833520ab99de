"""Methods of others on the board: packed into one file, verified by recomputing their scores, added as rows.

A submission comes from strangers, so it is treated as data: a safetensors file, read within limits. Code that
it holds runs only for someone who asks for that.
"""
