"""Methods of others on the board: packed into one file, verified by recomputing, added as that.

A submission comes from strangers. It is data: never unpacked to disk, never unpickled, and its code, if it
has any, is run by those alone who ask for it.
"""
