# Sourced by the other scripts: makes a virtual environment once and again whenever what it must hold has changed.

# The first Python of at least 3.11 among $PYTHON, python3, python and the versioned names.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info)' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    echo "dal needs Python 3.11 or newer; none was found. Set PYTHON to one." >&2
    return 1
}

# make_environment FOLDER EXTRA: FOLDER holds the package with EXTRA, under constraints.txt.
make_environment() {
    local folder=$1 extra=$2 python stamp wanted
    python=$(find_python) || return 1
    stamp=$folder/.installed
    wanted=$("$python" -c '
import hashlib, pathlib, sys
files = [pathlib.Path(name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
print(hashlib.sha256(b"".join([*files, sys.version.encode(), sys.argv[1].encode()])).hexdigest())' "$extra") || return 1
    if [ -x "$folder/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    echo "Installing into $folder (the first time takes some minutes) ..."
    rm -f "$stamp"
    "$python" -m venv "$folder" || return 1
    watched "$folder/install.log" "$folder/bin/python" -m pip install --disable-pip-version-check --progress-bar off \
        --constraint constraints.txt --editable ".[$extra]" || return 1
    printf '%s\n' "$wanted" >"$stamp"
}

# watched LOG COMMAND...: runs COMMAND with its output in LOG, and shows LOG if it fails. Every ten seconds shows its last
# line and the size of the folder of LOG, since pip says nothing while it writes files.
watched() {
    local log=$1 started=$SECONDS shown=0 status=0 command
    shift
    "$@" >"$log" 2>&1 &
    command=$!
    trap 'kill "$command" 2>/dev/null; exit 130' INT TERM  # a command in the background ignores Ctrl-C
    while kill -0 "$command" 2>/dev/null; do
        sleep 1
        if [ $((SECONDS - started - shown)) -ge 10 ]; then
            shown=$((SECONDS - started))
            echo "  ... $shown s, $(du -sh "$(dirname "$log")" | cut -f 1): $(tail -n 1 "$log" | cut -c 1-100)"
        fi
    done
    wait "$command" || status=$?
    trap - INT TERM
    if [ "$status" -ne 0 ]; then
        tail -n 40 "$log" >&2
    fi
    return "$status"
}
