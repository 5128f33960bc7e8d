#!/usr/bin/env bash
# One rate-accuracy curve as a Slurm array: a task for each weight of the rate, then a job that collects the curve.
#
#   launch/sweep_slurm.sh [--dry-run] [--sbatch=OPTION ...] WORKDIR "LAM LAM ..." -- --config=configs/cifar10.py
#
# Each task trains alone on one GPU in WORKDIR/lam_LAM; WORKDIR/curve holds result.json and rate_accuracy.png.
set -euo pipefail

if [ "${1:-}" = --in-job ]; then # one task of the array
    shift
    status=0
    srun --ntasks=1 python -m launch.sweep --only="$SLURM_ARRAY_TASK_ID" "$@" || status=$?
    if [ "$status" -eq 75 ]; then # preempted, and the checkpoint is written
        scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    fi
    exit "$status"
fi

dry_run=
options=(--job-name=vae_jcc_sweep --ntasks=1 --gpus=1 --cpus-per-task=8 --time=12:00:00 --requeue --signal=TERM@120
    --open-mode=append --output=vae_jcc_sweep-%A_%a.log)
while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry_run=1 ;;
    --sbatch=*) options+=("${1#--sbatch=}") ;;
    *) break ;;
    esac
    shift
done
if [ $# -lt 4 ] || [ "$3" != -- ]; then
    echo "usage: launch/sweep_slurm.sh [--dry-run] [--sbatch=OPTION ...] WORKDIR 'LAM LAM ...' -- --config=FILE" >&2
    exit 2
fi
read -r -a lams <<<"$2"
sweep=("--workdir=$1" "${lams[@]/#/--lam=}" -- "${@:4}")
array=(sbatch --parsable "--array=0-$((${#lams[@]} - 1))" "${options[@]}" launch/sweep_slurm.sh --in-job "${sweep[@]}")
collect=(sbatch --job-name=vae_jcc_curve "--dependency=afterok:ARRAY" --wrap
    "python -m launch.sweep --collect $(printf ' %q' "${sweep[@]}")")

if [ -n "$dry_run" ]; then
    printf '%q ' "${array[@]}"
    printf '\n'
    printf '%q ' "${collect[@]}"
    printf '\n'
else
    job=$("${array[@]}")
    "${collect[@]/ARRAY/${job%%;*}}"
fi
