#!/usr/bin/env bash
# Locks every requirements file with hashes: `make lock`. Needs uv. No index address or path ends up in a lock.
# What is locked stays at its version; UPGRADE=1 takes the newest that the .in files allow.
# The CPU build of torch must be found by uv: set UV_FIND_LINKS to a folder or page that has it.
set -euo pipefail
cd "$(dirname "$0")/requirements"
uv=${UV:-uv}
header="# Locked by images/lock.sh; install with: pip install --no-deps --require-hashes -r THIS_FILE"

lock() { # NAME [OPTION...]
    local name=$1
    shift
    [ -n "${UPGRADE:-}" ] || cp "$name.txt" "$name.txt.new" 2>/dev/null || true # uv keeps the versions that it finds there
    "$uv" pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 "$@" "$name.in" --output-file "$name.txt.new"
    { echo "$header"; cat "$name.txt.new"; } >"$name.txt"
    rm "$name.txt.new"
    echo "$name.txt: $(grep -c == "$name.txt") packages"
}

lock dev --override cpu-overrides.txt
# The images take the versions that the tests ran with, wherever they share a package.
grep -o '^[A-Za-z0-9._-]*==[^ ;]*' dev.txt >dev.versions
trap 'rm -f dev.versions cuda.versions' EXIT
lock server-cpu --override cpu-overrides.txt --constraint dev.versions
lock trainer-cpu --override cpu-overrides.txt --constraint dev.versions
# The CUDA engines pin much of their own; what the project's code imports is the same everywhere.
direct='litestar|msgspec|structlog|rich|granian|uvloop|watchfiles|prometheus-client|transformers|tokenizers|trl|peft|datasets|huggingface-hub|safetensors'
grep -E "^($direct)==" dev.versions >cuda.versions
unset UV_FIND_LINKS # the index has the CUDA build
lock server-cuda --constraint cuda.versions
lock trainer-cuda --constraint cuda.versions
(
    cd ../../tests/clients/requirements # each client program's environment is its own: nothing is shared with ours
    for file in *.in; do lock "${file%.in}"; done
)
