"""Pictures: read from files, prepared for the network, drawn from its answers.

In here: `load` (whatever shows a picture becomes an array), `processor` (resize, crop, scale, flip), `draw` (overlays
and masks, and any picture into a file), `folders` (which files are pictures, what outputs are called), `silence` (what
Pillow's decoders would write to stderr). Left to others: what the network makes of them (`modeling`, `pipeline`),
pictures of its inside (`inspection`). A new kind of input is read in `load.py`.
"""
