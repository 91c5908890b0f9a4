"""The code of docs/kernels.md, from a naive loop to a kernel, and the program that checks and times it.

    python -m docs.ladder                    from the folder of the clone

In here: `convolution`, `silu` and `attention`, the rungs; `__main__`, their data, the check and the stopwatch. Left to
others: the last rung of each ladder, which is a kernel. A new rung is a function in one of the files, a line in
`__main__` and a place in the page, which a test holds to the code.
"""
