#!/usr/bin/env bash
# Check on this machine's GPUs the code that only GPUs run, in under ten minutes and with a random model. Usage: launch/verify_gpu.sh [FILE]
# FILE (default: gpu-DATE.json) has device, driver, versions and measurements, and no path, host or user: attach it to an issue.
# The exit status is that of `uec doctor`: 0 if all checks pass, 1 if one fails, 2 without a GPU.
set -euo pipefail
file=$(realpath -m -- "${1:-gpu-$(date +%Y%m%d-%H%M%S).json}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
    printf 'verify_gpu: %s\n' "$@" >&2
    exit 2
}

[ $# -le 1 ] || die "more than one argument: launch/verify_gpu.sh [FILE]"
nvidia-smi >/dev/null 2>&1 || die "nvidia-smi finds no GPU: install the NVIDIA driver, or start the container with --gpus all"
make --no-print-directory setup ACCEL=gpu

status=0
.venv/bin/uec doctor --gpu --json "$file" || status=$?
if [ -e "$file" ]; then echo "verify_gpu: the results are in $file; attach it to an issue"; fi
exit "$status"
