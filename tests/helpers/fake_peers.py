"""Peers that misbehave, for the tests of `bench`; and the program of a contestant that knows them."""

import os
import signal
import sys

import numpy as np

from tinymvit.bench import contestant, peers


class Fake(peers.Peer):
    """Gives the answer that we gave before, and needs no kernels for it, so that it starts at once."""

    distribution = "numpy"
    modules = ("json",)

    def load(self, folder, threads):
        self._answer = np.load(contestant.answer_file(folder, peers.OURS))

    def run(self, pixel_values):
        return self._answer.copy()


class Honest(Fake):
    name = "honest"

    def load(self, folder, threads):
        super().load(folder, threads)
        print("a library that prints, and no JSON at that")
        os.write(1, b"from C, too\n")


class Liar(Fake):
    name = "liar"

    def run(self, pixel_values):
        return super().run(pixel_values) * np.float32(1.001)


class Blank(Fake):
    name = "blank"

    def run(self, pixel_values):
        return super().run(pixel_values) * np.nan


class Short(Fake):
    name = "short"

    def run(self, pixel_values):
        return super().run(pixel_values)[:, 1:]


class Broken(Fake):
    name = "broken"

    def load(self, folder, threads):
        raise RuntimeError("the model is too beautiful\nand much more about it")


class Killed(Fake):
    name = "killed"

    def load(self, folder, threads):
        os.kill(os.getpid(), signal.SIGKILL)


class Tired(Fake):
    """Dies in its second round."""

    name = "tired"
    calls = 0

    def run(self, pixel_values):
        self.calls += 1
        if self.calls > 5:
            os._exit(3)
        return super().run(pixel_values)


class Unmade(Fake):
    name = "unmade"
    file = "model.fake"


def refuse(folder, pixel_values):
    raise ValueError("an op that no format has")


FAKES = {peer.name: peer for peer in (Honest, Liar, Blank, Short, Broken, Killed, Tired, Unmade)}
EXPORTS, EXPORT_MODULES = {Unmade.file: refuse}, {Unmade.file: ()}

if __name__ == "__main__":
    peers.PEERS.update(FAKES)
    peers.EXPORTS.update(EXPORTS)
    sys.exit(contestant.main(sys.argv[1:]))
