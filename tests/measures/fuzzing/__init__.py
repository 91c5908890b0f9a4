"""A fuzzing campaign of our own: random input that is nearly right, for every reader, function and command.

In here: `rules` (what a case may do, all of it in constants), `sandbox` (hears and measures what a case does), `cases`
(what a case is, and how one is run and judged), `campaign` (workers, time, memory, the summary), `random_values`
(names, numbers, JSON, bytes and arrays), `models` (tiny ones); and the makers of cases, each of which says what
independent reader must agree: `tensor_files`, `settings`, `pictures`, `checkpoints`, `dumps`, `python_calls`,
`extreme_weights`, `commands`. Left to others: the command, `tests/measures/fuzz.py`. A new target is a function that
makes a `Case` out of a seed, and a row in `targets`.
"""
