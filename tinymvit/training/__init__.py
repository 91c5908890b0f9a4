"""How the bundled checkpoints were made: their data, their training, their model cards.

In here: programs for those who repeat or change the training, which needs PyTorch (the extra `train`). Left to others:
reading and writing checkpoints (`weights`). A new bundled checkpoint is trained by a file here.
"""
