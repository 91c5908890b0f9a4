"""The commands of the command line, one a file: `add` declares its options, `run` does the work; `cli` calls them.

What takes long to import is imported by the command that needs it. `shared.py` has what several commands say alike.
"""
