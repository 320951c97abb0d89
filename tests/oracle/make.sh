#!/usr/bin/env bash
# Computes verl.json and trl.json anew with the real packages. Usage: tests/oracle/make.sh
# The environment (1.4 GB) lies in ${XDG_CACHE_HOME:-~/.cache}/uec-rl/oracle and is made once; other pins make it anew.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${XDG_CACHE_HOME:-$HOME/.cache}/uec-rl/oracle
env=$home/env
stamp=$home/ready-$(cat "$here"/requirements*.txt | sha256sum | cut -c1-16)

say() { echo "oracle: $*"; }

mkdir -p "$home"
exec 9<"$home" && flock 9 # one at a time
if [ ! -e "$stamp" ] || ! "$env/bin/python" -c '' 2>/dev/null; then
    say "installing verl, TRL and what they import into $env (some minutes)"
    rm -rf "$env" "$home"/ready-*
    "${PYTHON:-python3.11}" -m venv "$env"
    pip=("$env/bin/python" -m pip --quiet --disable-pip-version-check --no-input install)
    "${pip[@]}" -r "$here/requirements.txt"
    "${pip[@]}" --no-deps -r "$here/requirements-no-deps.txt"
    touch "$stamp"
fi

export OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES= HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
cd "$here/../.."
for package in verl trl; do
    say "computing $package.json"
    "$env/bin/python" -W ignore -m "tests.oracle.${package}_values"
done
