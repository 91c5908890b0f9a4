"""What runs the kernels: checked arguments, compiling and its cache, programs of steps, threads, the machine's peak.

In here: machinery that no op is named after. Left to others: the loops (one op a file, above), what they are written in
(`simd`). A new check of an argument is a function in `arguments.py`; a new way to run steps belongs in `program.py`.
"""
