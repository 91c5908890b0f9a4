"""Pictures: read from files, prepared for the network, drawn from its answers.

In here: `load` (whatever shows a picture becomes an array), `processor` (resize, crop, scale, flip), `draw` (overlays
and grids of maps), `folders` (which files are pictures, what outputs are called). Left to others: what the network
makes of them (`modeling`, `pipeline`). A new kind of input is read in `load.py`.
"""
