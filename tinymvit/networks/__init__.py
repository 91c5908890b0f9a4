"""Networks written down: functions that record a graph from a configuration and an input shape.

In here: `mobilevit` as the paper draws it, `layers` and `heads` that networks share, `random_weights` to start from.
Left to others: what an op computes (`ops`), loading weights (`weights`), the classes that users call (`modeling`). A
new network is a file here.
"""
