"""`tinymvit models`: the bundled and the published checkpoints."""

import json

from command_line import run


def test_models_lists_bundled_and_published(capsys):
    code, out, _ = run(capsys, "models")
    assert code == 0
    names = [line.split()[0] for line in out.splitlines()[1:]]
    assert names[:2] == ["digits", "digits-seg"]
    assert "apple/deeplabv3-mobilevit-xx-small" in names
    entries = json.loads(run(capsys, "models", "--json")[1])
    assert [entry["name"] for entry in entries] == names
