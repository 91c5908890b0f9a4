"""The command line as tests run it, in this process; and the pictures it is given."""

from pathlib import Path

from tinymvit.cli import main

ROOT = Path(__file__).parent.parent.parent
IMAGES = ROOT / "docs" / "images"
DIGIT, SCENE = str(IMAGES / "digit-7.png"), str(IMAGES / "scene-1.png")


def run(capsys, *arguments):
    """Exit code, stdout and stderr of a command run in this process."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err
