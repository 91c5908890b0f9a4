"""What happens inside a network: readers of the graph that compute nothing new.

In here: every intermediate by its name (`trace`), dumps on disk (`dump` reads, `dump_writer` writes), the table of
layers (`summary`), where a query pixel looks (`attention_map`), a map's channels (`feature_map`). Left to others: how a
value is computed (`reference`, `engine`), what a foreign dump gets wrong (`comparison`). A new view of the inside is a
file here.
"""
