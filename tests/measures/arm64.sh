#!/usr/bin/env bash
# The project on 64-bit ARM, without such a machine: `classify`, `segment` and the digests, on emulated processors.
#
#     tests/measures/arm64.sh [-p PROCESSOR] [-t TESTS] [WORK]
#
# -p PROCESSOR   neoverse-n1 (the default), neoverse-v1, apple-m1 or cortex-a72, by LLVM's names; may stand several times
# -t TESTS       run these tests there too, for example tests/kernels; may stand several times
# WORK           a folder for all that is downloaded and compiled, kept for a next run; by default a temporary one
#
# Each processor ends in a line, PASS or FAIL; the exit code is 1 if one failed. For Debian on x86-64. Nothing is
# installed: the emulator, an ARM64 Python of the same Debian and its wheels (170 MB) are unpacked into WORK. PYTHON is
# the Python of this machine that downloads and builds, with pip; by default python3. A processor takes 3 minutes
# on an idle machine; TESTS take long.
set -euo pipefail

stop() { echo "arm64.sh: $1" >&2 && exit 2; }

known() { # PROCESSOR
    case $1 in
        neoverse-n1 | neoverse-v1 | apple-m1 | cortex-a72) ;;
        *) stop "PROCESSOR must be neoverse-n1, neoverse-v1, apple-m1 or cortex-a72, not $1" ;;
    esac
}

emulated() { # PROCESSOR: the emulator's name for it, or for one that has all its instructions
    case $1 in neoverse-n1 | cortex-a72) echo "$1" ;; *) echo max ;; esac
}

processors=() tests=()
while getopts p:t: option; do
    case $option in
        p) known "$OPTARG" && processors+=("$OPTARG") ;;
        t) tests+=("$OPTARG") ;;
        *) stop "expected [-p PROCESSOR] [-t TESTS] [WORK]" ;;
    esac
done
shift $((OPTIND - 1))
[ $# -le 1 ] || stop "expected one folder WORK, not $*"
[ ${#processors[@]} -gt 0 ] || processors=(neoverse-n1)
host=${PYTHON:-python3}
for tool in apt-get apt-cache dpkg git tar "$host"; do
    command -v "$tool" >/dev/null || stop "needs $tool, which is not on the path"
done
"$host" -m pip --version >/dev/null 2>&1 || stop "needs pip in $host (PYTHON names another Python)"
[ "$(dpkg --print-architecture)" = amd64 ] || stop "is for Debian on x86-64, not $(dpkg --print-architecture)"

project=$(realpath "$(dirname "$0")/../..")
if [ $# -eq 1 ]; then
    work=$(realpath -m "$1")
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi
root=$work/root site=$work/site python=$work/python
mkdir -p "$work"
export PIP_QUIET=1 PIP_DISABLE_PIP_VERSION_CHECK=1
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE PYTHONPATH PYTHONHOME # meant for this machine's processor and Python

build() { # the project as a wheel, from a copy of its files, since a build writes into the folder that it reads
    rm -rf "$work/project" "$work/wheel"
    mkdir "$work/project"
    git -C "$project" ls-files -z | tar -C "$project" --null -T - -c | tar -C "$work/project" -x
    "$host" -m pip wheel --no-deps -w "$work/wheel" "$work/project"
}

set_up() { # the emulator, Python and the wheels, with package lists of their own
    local apt=$work/apt minor release ssl packages deb tags=()
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$work/debs" "$work/wheels" "$root" "$site"
    : >"$apt/status"
    cat >"$apt/conf" <<END
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
APT::Architecture "arm64";
APT::Architectures { "arm64"; "amd64"; };
APT::Sandbox::User "root";
END
    export APT_CONFIG=$apt/conf
    apt-get update -qq
    release=$(apt-cache depends python3-minimal | grep -o 'python3\.[0-9]*' | head -1)
    ssl=$(apt-cache depends "lib$release-stdlib" "lib$release-minimal" | grep -o 'libssl3[a-z0-9]*' | head -1)
    packages=("$release-minimal" "lib$release-minimal" "lib$release-stdlib" libc6 libgcc-s1 libstdc++6 libgomp1 zlib1g
        libexpat1 libffi8 "$ssl" libbz2-1.0 liblzma5 libcrypt1 libuuid1)
    (cd "$work/debs" && apt-get download -qq "${packages[@]}")
    for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$root"; done
    (cd "$work" && { apt-get download -qq qemu-user-static:amd64 || apt-get download -qq qemu-user:amd64; })
    dpkg -x "$work"/qemu-user*.deb "$work/emulator"
    for minor in 17 27 28; do tags+=(--platform "manylinux_2_${minor}_aarch64"); done
    "$host" -m pip download -d "$work/wheels" "${tags[@]}" --platform manylinux2014_aarch64 --only-binary=:all: \
        --implementation cp --python-version "${release#python}" "$(echo "$work"/wheel/*.whl)[test-quick]"
    for wheel in "$work"/wheels/*.whl; do "$host" -m zipfile -e "$wheel" "$site"; done
    # Emulated Python as a command, so that the processes that it starts are emulated too.
    cat >"$python" <<END
#!/bin/sh
exec "$(find "$work/emulator/usr/bin" -name 'qemu-aarch64*' ! -name '*_be*' | sort | tail -1)" -cpu "\$EMULATED" -L "$root" \\
    -0 "$python" -E PYTHONHOME="$root/usr" -E PYTHONPATH="$site" -E PYTHONDONTWRITEBYTECODE=1 \\
    "$root/usr/bin/$release" "\$@"
END
    chmod +x "$python"
    touch "$work/ready"
}

check() { # PROCESSOR: whether all is as it should be there
    # Without features, LLVM takes those of the name. It could not find them: the emulator shows it this machine's.
    export EMULATED NUMBA_CPU_NAME=$1 NUMBA_CPU_FEATURES='' NUMBA_CACHE_DIR=$work/cache-$1 NUMBA_NUM_THREADS=1
    EMULATED=$(emulated "$1")
    local project=$work/project label
    cd "$work" # in the project's folder Python would find the sources before the wheel
    "$python" -c 'import platform, numba, numpy
print(platform.machine(), "Python", platform.python_version(), "NumPy", numpy.__version__, "Numba", numba.__version__)' &&
        label=$("$python" -m tinymvit.cli classify "$project/docs/images/digit-7.png") && echo "$label" &&
        [[ $label == 7* ]] &&
        "$python" -m tinymvit.cli segment "$project/docs/images/scene-2.png" --output scene.png &&
        "$python" -c 'import sys; from PIL import Image; a, b = map(Image.open, sys.argv[1:])
assert a.size == b.size and a.tobytes() == b.tobytes(), "segment draws another picture than the one in docs/images"' \
            scene.png "$project/docs/images/segmented-scene.png" &&
        "$python" "$project/tests/measures/digests.py" >digests.json &&
        diff digests.json "$project/tests/digests.json" &&
        if [ ${#tests[@]} -gt 0 ]; then
            "$python" -m pytest -c "$project/pyproject.toml" -m "not torch" -n 0 "${tests[@]/#/$project/}"
        fi
}

build
[ -e "$work/ready" ] || set_up
rm -rf "$site"/tinymvit*
"$host" -m zipfile -e "$work"/wheel/*.whl "$site"
failed=0
for processor in "${processors[@]}"; do
    started=$SECONDS
    if (check "$processor") >"$work/$processor.log" 2>&1; then result=PASS; else
        result=FAIL failed=1
        tail -n 40 "$work/$processor.log"
    fi
    echo "$processor: $result ($((SECONDS - started)) s)"
done
exit $failed
