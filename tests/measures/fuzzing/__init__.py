"""A fuzzing campaign of our own: random input that is nearly right, for every reader, function and command.

In here: `rules` (what a case may do, all of it in constants), `sandbox` (hears and measures what a case does), `cases`
(what a case is, and how one is run and judged), `campaign` (workers, time, memory, the summary), `random_values` (names,
numbers, JSON and bytes out of a seed); and a file a target: each makes cases out of a seed and says what independent
reader must agree. Left to others: the command, `tests/measures/fuzz.py`. A new target is a function in a file of its
own and a row in `targets`.
"""
