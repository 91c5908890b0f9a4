"""File formats: bytes on disk to tensors by name, read lazily.

In here: one file a format, `open(path)` to names, shapes and lazy arrays, and its writer if we write it. Left to
others: what the names mean (`weights.families`), which dtype a model wants (`weights.checkpoint`). A new format is a
file here.
"""
