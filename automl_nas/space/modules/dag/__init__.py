"""Graphs of modules whose edges are searched.

`module` is the module that users write (`Dag`) and its view, `graph` decides which nodes and edges are live,
`forward_pass` computes the maps and their weighted sums.
"""
