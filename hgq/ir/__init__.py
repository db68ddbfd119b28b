"""The narrow waist: one frozen graph of integer operations that every reader below `hgq.freeze` shares.

=================  =====================================================================================
`graph.py`         `Graph`, `Input`, `Const`, `Node`: plain frozen data
`ops.py`           what each op means, once, written against the NumPy protocol; the op table
`integers.py`      `IntArray`: the arrays of the golden model
`ranges.py`        `RangeArray`: intervals and least significant bits, which prove formats
`interpret.py`     runs a graph over any of those arrays (and over alkaid's symbolic ones)
`spec.py`          the invariants, checked after freezing, loading and after every pass
`build.py`         `GraphBuilder`, what a layer's `to_ir` writes with
`file.py`          the ``.hgq`` file
`show.py`          a graph as tables for people
=================  =====================================================================================
"""
