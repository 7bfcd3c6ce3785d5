"""The product on a bare machine: a laboratory of namespaces, and the scenes played in it.

`lab.py` makes the laboratory and takes it away again; tests on the real kernel use it, too.
"""
