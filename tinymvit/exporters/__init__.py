"""Exporters: the graph and its weights as a file that another runtime runs, or as a program of its own.

In here: `export` (what is exported, and how it gets on the disk), `network` (what an exporter is given), `check` (the
file in its runtime, beside the truth and our engine), `storage` (weights in shorter formats), `int8` (the ranges of a
network that computes in it), and one file for each target: `onnx`, `tflite`, `c`; to this last belong `c_program`,
which calls there are and where values lie, and the folder c_source, what is called. Left to others: rewriting the
graph (`passes`), finding ranges (`quantisation`), checkpoints of other libraries (`weights.families`). A new exporter
is a file here and its name in `EXPORTERS` of `export.py`.
"""
