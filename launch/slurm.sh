#!/usr/bin/env bash
# One training on the nodes of a Slurm cluster, one task a GPU; requeued when it is preempted. Run it from the checkout:
#
#   launch/slurm.sh [--dry-run] [--sbatch=OPTION ...] -- --config=configs/imagenet.py --workdir=/shared/runs/imagenet
#
# It submits itself with sbatch: 1 node with 4 GPUs and 24 hours, unless --sbatch says otherwise (each may be repeated:
# --sbatch=--nodes=4 --sbatch=--time=8:00:00 --sbatch=--partition=gpu). Python is that of the environment at submission.
set -euo pipefail

train() { # inside the job
    local status=0
    # One task that fails ends the others; without it they would wait for it until they notice its silence.
    srun --kill-on-bad-exit=1 python -m vae_jcc.main "$@" || status=$?
    if [ "$status" -eq 75 ]; then # preempted, and the checkpoint is written
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$status"
}

if [ "${1:-}" = --in-job ]; then
    shift
    train "$@"
fi

dry_run=
# All tasks of a node see all its GPUs, and each takes the one of its number: no --gpus-per-task.
# SIGTERM comes to the tasks 120 seconds before the time limit.
options=(--job-name=vae_jcc --nodes=1 --ntasks-per-node=4 --gpus-per-node=4 --cpus-per-task=8 --time=24:00:00
    --requeue --signal=TERM@120 --open-mode=append --output=vae_jcc-%j.log)
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
    --dry-run) dry_run=1 ;;
    --sbatch=*) options+=("${1#--sbatch=}") ;;
    *) echo "slurm.sh: unknown option $1; those of vae_jcc.main come after --" >&2 && exit 2 ;;
    esac
    shift
done
if [ $# -lt 2 ]; then
    echo "usage: launch/slurm.sh [--dry-run] [--sbatch=OPTION ...] -- --config=FILE --workdir=SHARED_FOLDER ..." >&2
    exit 2
fi
shift

if [ -n "$dry_run" ]; then
    printf 'sbatch'
    printf ' %q' "${options[@]}" launch/slurm.sh --in-job "$@"
    printf '\nin the job: srun --kill-on-bad-exit=1 python -m vae_jcc.main'
    printf ' %q' "$@"
    printf '\nafter exit code 75: scontrol requeue JOB\n'
else
    sbatch "${options[@]}" launch/slurm.sh --in-job "$@"
fi
