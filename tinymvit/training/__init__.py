"""How the bundled checkpoints were made: their data, their training, their model cards.

In here: programs for those who repeat or change the training, which needs PyTorch (the extra `train`). Left to others:
reading and writing checkpoints (`weights`). The training of another bundled checkpoint is a file here.
"""
