#!/usr/bin/env bash
# A run on Slurm: a Ray cluster that lives as long as the job, with the driver on the first node. From a checkout that all nodes see:
#     sbatch launch/slurm.sh configs/paper/qwen2_5_vl_7b_geometry3k.yaml run.name=geometry run.resume=auto
# More nodes: sbatch --nodes=2 launch/slurm.sh ... The same command resumes from the newest checkpoint. `scancel --batch --signal=TERM JOB`
# and the time limit make the run write one. The script is untested on Slurm: see docs/unverified.md.
#SBATCH --job-name=uec-rl
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@900
#SBATCH --output=slurm-%j.log
# (mem=0: all memory of a node. signal: SIGTERM to this script 15 minutes before the time limit, for a step and a checkpoint.)
set -euo pipefail

die() {
    echo "slurm.sh: $*" >&2
    exit 2
}

[ -n "${SLURM_JOB_ID:-}" ] || die "this is a batch script: sbatch launch/slurm.sh CONFIG [section.field=value ...]"
[ $# -ge 1 ] || die "no config given: sbatch launch/slurm.sh CONFIG [section.field=value ...]"
cd "$SLURM_SUBMIT_DIR"
[ -x .venv/bin/ray ] || die "$PWD has no .venv/bin/ray: submit from the checkout, after make setup on a file system that all nodes see"

# One token per job, which only the environment of its processes contains. Without it Ray would accept everybody on the network.
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_worker_niceness=0
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-$(nproc)}" # srun does not inherit it from sbatch

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]} # this script runs there
others=$((${#nodes[@]} - 1))
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{ print $1; exit }')
port=$((20000 + SLURM_JOB_ID % 20000)) # two jobs on one node use different ports
ray=(.venv/bin/ray start --block --disable-usage-stats --num-cpus="$SRUN_CPUS_PER_TASK")

steps=()
# shellcheck disable=SC2317
clean_up() { # end the steps that this script started; Slurm ends all other processes
    local step
    for step in "${steps[@]}"; do kill "$step" 2>/dev/null || true; done
    wait
}
trap clean_up EXIT

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
    "${ray[@]}" --head --node-ip-address="$address" --port="$port" --temp-dir="/tmp/ray-$SLURM_JOB_ID" --include-dashboard=false &
steps+=($!)
if [ "$others" -gt 0 ]; then
    srun --nodes="$others" --ntasks="$others" --exclude="$head" --overlap "${ray[@]}" --address="$address:$port" &
    steps+=($!)
fi
.venv/bin/python -m launch.wait_for_nodes "$address:$port" "${#nodes[@]}"

.venv/bin/python -m launch.train "$@" cluster.address="$address:$port" &
driver=$!
trap 'kill -TERM "$driver"' TERM # the driver writes a checkpoint; `wait` returns at the signal and is called again
status=0
wait "$driver" || status=$?
while kill -0 "$driver" 2>/dev/null; do
    status=0
    wait "$driver" || status=$?
done
exit "$status"
