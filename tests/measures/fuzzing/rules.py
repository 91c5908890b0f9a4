"""What a case may do and what it must not: every limit of the campaign in one place."""

import os

# ---- how a case may end ----

# By an answer, or by an error of exactly these types or of the library's own, raised by a `raise` of ours: a ValueError
# that NumPy or json raised below us says nothing of what the user gave.
ERRORS = (ValueError, TypeError)
EXIT_CODES = (0, 1, 2)  # of a command
LONGEST_TEXT = 2500  # characters of an error, of a warning, of a line on stderr
PRINTABLE_ERRORS = True  # whether errors and warnings must be one printable line in Python too, or only when printed
# Warnings that a library may give its users. All others, and all that come out of other packages, are findings.
WARNINGS = (UserWarning, FutureWarning)

# ---- what it may cost ----

SECONDS = 10.0  # wall-clock time; a second run must confirm it, for machines are busy
SECONDS_TO_WRITE = 60.0  # of one that may write a picture of 60 megapixels, for which WebP takes half a minute
SECONDS_OF_A_PROCESS = 60.0  # of a case that starts processes, which import and load everything
MEMORY = 1200 * 2**20  # bytes by which a case may raise the largest resident size of its process
ADDRESS_SPACE = 8 * 2**30  # bytes: what would fill the machine ends in a MemoryError, which is a finding

# ---- what it may touch ----

# Files are written, made, renamed and removed below the case's own folder alone; these devices take anything.
WRITABLE = (os.devnull,)
# What is loaded, not done on anybody's behalf: caches of compiled Python, of kernels, and of fonts. By parts of paths.
CACHES = ("__pycache__", ".nbc", ".nbi", "matplotlib")
# What nobody's input may cause. Events of `sys.audit`.
FORBIDDEN_EVENTS = {
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.kill", "pty.spawn",
    "subprocess.Popen", "pickle.find_class", "socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto",
    "webbrowser.open", "urllib.Request",
}  # fmt: skip
# Modules that may cause such events on their own behalf: by parts of the names of files on the stack.
EXEMPT_CALLERS = ("/numba/", "/llvmlite/", "/matplotlib/")
# Parts of the names of files which would show that something unfinished was left behind.
UNFINISHED = (".tmp", ".old")

# ---- where an independent reader must agree ----

PILLOW_READS = 2**22  # pixels up to which Pillow is asked too
# An error that a good picture may draw all the same, by a part of its text: limits of ours, formats that we do not
# read, and pictures of numbers that are no levels.
REFUSALS_OF_GOOD_PICTURES = ("format", "pixels", "bytes", "memory", "limit", "larger", "too ")
