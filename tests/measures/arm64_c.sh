#!/usr/bin/env bash
# The exported C on 64-bit ARM, without such a machine: has every value of every node the bits that it has on x86-64?
#
#     tests/measures/arm64_c.sh [WORK [MODEL ...]]
#
# WORK           a folder for all that is downloaded, kept for a next run; by default a temporary one
# MODEL          what `tinymvit export` takes; by default digits and digits-seg
#
# Each model, with float32 and with int8 weights, ends in a line, PASS or FAIL; the exit code is 1 if one failed. For
# Debian on x86-64 with gcc. Nothing is installed: a cross compiler and the emulator (94 MB) are unpacked into WORK.
# PYTHON is a Python in which tinymvit is installed; by default python3. Takes a minute, half of it for the download.
set -euo pipefail

stop() { echo "arm64_c.sh: $1" >&2 && exit 2; }

host=${PYTHON:-python3}
for tool in apt-get dpkg gcc "$host"; do
    command -v "$tool" >/dev/null || stop "needs $tool, which is not on the path"
done
[ "$(dpkg --print-architecture)" = amd64 ] || stop "is for Debian on x86-64, not $(dpkg --print-architecture)"
if [ $# -ge 1 ]; then
    work=$(realpath -m "$1")
    shift
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi
[ $# -ge 1 ] || set -- digits digits-seg
root=$work/root
mkdir -p "$work"

set_up() { # the cross compiler of this Debian's gcc, the C library of ARM, and the emulator
    local apt=$work/apt release deb
    mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$work/debs"
    : >"$apt/status"
    cat >"$apt/conf" <<END
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
APT::Sandbox::User "root";
END
    export APT_CONFIG=$apt/conf
    apt-get update -qq
    release=$(gcc -dumpversion | cut -d. -f1)
    (cd "$work/debs" && apt-get download -qq "gcc-$release-aarch64-linux-gnu" "cpp-$release-aarch64-linux-gnu" \
        binutils-aarch64-linux-gnu libc6-dev-arm64-cross libc6-arm64-cross linux-libc-dev-arm64-cross \
        "libgcc-$release-dev-arm64-cross" libgcc-s1-arm64-cross)
    (cd "$work/debs" && { apt-get download -qq qemu-user-static || apt-get download -qq qemu-user; })
    for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$root"; done
    touch "$work/ready"
}

cross() { # as a compiler that finds its parts where they were unpacked
    local there=$root/usr/aarch64-linux-gnu
    LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu "$root"/usr/bin/aarch64-linux-gnu-gcc-[0-9]* -static \
        -B "$there/bin/" -B "$there/lib/" -isystem "$there/include" -L "$there/lib" "$@"
}

check() { # MODEL PRECISION
    local folder=$work/c/$1-$2 flags=(-std=c99 -ffp-contract=off)
    rm -rf "$folder"
    mkdir -p "$folder/here" "$folder/arm"
    "$host" -m tinymvit.cli export "$1" --to c --precision "$2" --output "$folder/source" >/dev/null
    "$host" -c 'import sys
from tinymvit.vectors import noise
_, dtype, *shape = sys.argv[1].split()
sys.stdout.buffer.write(noise(tuple(map(int, shape))).tobytes())' \
        "$(gcc "${flags[@]}" -O2 -o "$folder/program" "$folder"/source/*.c && "$folder/program" --describe | head -1)" \
        >"$folder/input"
    cross "${flags[@]}" -O3 -o "$folder/program-arm" "$folder"/source/*.c
    "$folder/program" --trace "$folder/here" <"$folder/input"
    "$(find "$root/usr/bin" -name 'qemu-aarch64*' ! -name '*_be*' | sort | tail -1)" "$folder/program-arm" \
        --trace "$folder/arm" <"$folder/input"
    diff -rq "$folder/here" "$folder/arm" && [ "$(find "$folder/arm" -name '*.bin' | wc -l)" -gt 100 ]
}

[ -e "$work/ready" ] || set_up
failed=0
for model in "$@"; do
    for precision in float32 int8; do
        if check "$model" "$precision"; then result=PASS; else result=FAIL failed=1; fi
        echo "$model, $precision: $result"
    done
done
exit $failed
