"""What a case does, heard and measured: files that are opened, made and removed, processes, sockets, memory, output.

A process has one sandbox. `sys.audit` tells it of every file that Python opens or changes; the two descriptors of
output lead into a file, so that what a C library prints is seen too.
"""

import os
import sys
from pathlib import Path

from . import rules

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Events that change what their paths name -> which arguments are paths.
_CHANGES = {
    "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.mkdir": (0,), "os.link": (1,), "os.symlink": (1,),
    "os.chmod": (0,), "os.chown": (0,), "os.truncate": (0,), "os.utime": (0,), "os.setxattr": (0,),
    "shutil.rmtree": (0,), "shutil.move": (0, 1), "shutil.copyfile": (1,),
}  # fmt: skip


class Sandbox:
    """A folder for one case after another, with a folder beside it that no case may read or change.

    trouble: what the case did that it must not, while `listening`, and on what.
    """

    def __init__(self, root, output):
        self.root = Path(os.path.realpath(root))
        self.case = self.root / "case"
        self.outside = self.root / "outside"  # holds what links and paths with .. in a case may lead to
        self.temporary = self.root / "temporary"
        for folder in (self.case, self.outside, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)
        os.environ["TMPDIR"] = str(self.temporary)
        self._output = output  # a descriptor
        self.listening = False
        self.trouble = []
        sys.addaudithook(self._hear)

    def _hear(self, event, arguments):
        if not self.listening:
            return
        if event == "open":
            self._hear_open(*arguments)
        elif event in _CHANGES:
            for position in _CHANGES[event]:
                self._check_change(event, arguments[position], arguments[-1])
        elif event in rules.FORBIDDEN_EVENTS and not _is_exempt():
            self.trouble.append((f"{event} happened", repr(arguments)[:200]))

    def _hear_open(self, path, mode, flags):
        if isinstance(path, int):
            return
        if flags is not None and flags & _WRITES:
            self._check_change("open for writing", path, -1)
        elif str(self.outside) in os.path.realpath(path):
            self.trouble.append(("a file outside of the folder was read", os.fsdecode(path)))

    def _check_change(self, event, path, folder):
        if isinstance(path, int):
            return
        name = os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0 and not name.startswith("/"):
            name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)  # noqa: PTH115, PTH118
        where = os.path.join(os.path.realpath(os.path.dirname(name) or "."), os.path.basename(name))  # noqa: PTH118, PTH119, PTH120
        inside = where.startswith((f"{self.case}/", f"{self.temporary}/")) or where in (str(self.case), *rules.WRITABLE)
        if not inside and not any(part in where for part in rules.CACHES):
            self.trouble.append((f"{event} outside of the folder", where))

    def printed(self):
        """What has gone to the two descriptors of output since the last call."""
        size = os.lseek(self._output, 0, os.SEEK_END)
        if size == 0:
            return b""
        text = os.pread(self._output, 10000, 0)
        os.ftruncate(self._output, 0)
        os.lseek(self._output, 0, os.SEEK_SET)
        return text


def _is_exempt():
    frame = sys._getframe(2)
    while frame is not None:
        if any(part in frame.f_code.co_filename for part in rules.EXEMPT_CALLERS):
            return True
        frame = frame.f_back
    return False


def largest_resident():
    """Bytes of memory that this process has held at most. `getrusage` would count what its parent held too."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024


def resident():
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


def files_below(folder):
    """Every file and link below a folder by its relative path, with what a change of it would change. Folders too, of
    which only the name counts. Paths may hold bytes that are no text."""
    found = {}
    todo = [str(folder)]
    start = len(todo[0]) + 1
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                name = entry.path[start:]
                if entry.is_dir(follow_symlinks=False):
                    found[name] = "folder"
                    todo.append(entry.path)
                else:
                    about = entry.stat(follow_symlinks=False)
                    found[name] = (about.st_mode, about.st_size, about.st_mtime_ns, about.st_ino)
    return found
