#!/usr/bin/env bash
# The quick tests and the digests with the oldest dependencies that pyproject.toml allows, or the newest that exist.
#
#     tests/measures/dependencies.sh lowest|newest
#
# PYTHON is the Python to use, by default the first on the path. The oldest have wheels for Python 3.11 and 3.12 only.
set -euo pipefail
cd "$(dirname "$0")/../.."
case ${1:-} in
    lowest) exact='lambda requirement: requirement.replace(">=", "==")' ;;
    newest) exact='str' ;;
    *) echo "dependencies.sh: expected lowest or newest" >&2 && exit 2 ;;
esac
host=${PYTHON:-$(command -v python3 || command -v python)}
requirements=$("$host" -c "import tomllib
print(*map($exact, tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies']))")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1 NUMBA_CACHE_DIR=$work/cache
"$host" -m venv "$work/venv"
if [ -d "$work/venv/Scripts" ]; then . "$work/venv/Scripts/activate"; else . "$work/venv/bin/activate"; fi
# shellcheck disable=SC2086 # a word is a requirement
python -m pip install $requirements -e '.[test-quick]'
python --version
python -m pip list --format freeze | grep -iE '^(numpy|numba|llvmlite|pillow|safetensors|tqdm)='
python tests/measures/digests.py | diff - tests/digests.json && echo "digests: equal"
python -m pytest -m "not torch"
