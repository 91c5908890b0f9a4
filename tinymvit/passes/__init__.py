"""Passes: a graph becomes another graph with the same results, as the engine or an exporter's target likes it.

Each pass is a function from (graph, weights) to (graph, weights) that leaves both arguments as they are. A merged node
keeps the name of the last node it replaces, because that is the value it makes. A node whose value is an output, or
that several nodes read, is never merged away.

In here: `fold` (normalisations into convolutions), `fuse` (ops that follow one another), `rewrite` (what they are
written with). Left to others: which passes the engine takes (`engine.engine`), and an exporter (its file in
`exporters`). A new pass is a function in the file of its kind, or in a new file.
"""
