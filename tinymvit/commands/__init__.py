"""The commands of the command line, one a file: `add` declares its options, `run` does it and returns the exit code.

In here: what is asked of the user and what is printed; `options` and `progress` hold what several commands share. Left
to others: the work itself, one place for each command (`pipeline`, `inspection`, `comparison`, `bench`, ...). What
takes long to import is imported by the command that needs it. A new command is a file here and its name in
`cli.COMMANDS`.
"""
