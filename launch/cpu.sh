#!/usr/bin/env bash
# One training on the cores of this machine's CPU, a device a core. Run it from the checkout:
#
#   launch/cpu.sh [--dry-run] [--cores=N] -- --config=configs/cifar10.py --workdir=runs/cifar10
#
# XLA keeps several cores busier, and needs less memory, with a device on each than with one device that shares out every
# operation. config.train.batch_size and config.eval.batch_size must be multiples of the number of cores.
set -euo pipefail

dry_run=
cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
    --dry-run) dry_run=1 ;;
    --cores=*) cores=${1#--cores=} ;;
    *) echo "cpu.sh: unknown option $1; those of vae_jcc.main come after --" >&2 && exit 2 ;;
    esac
    shift
done
if [ $# -lt 2 ]; then
    echo "usage: launch/cpu.sh [--dry-run] [--cores=N] -- --config=FILE --workdir=FOLDER ..." >&2
    exit 2
fi
shift

# Operations of one thread each, in the order that needs least memory.
flags="--xla_cpu_multi_thread_eigen=false --xla_cpu_enable_concurrency_optimized_scheduler=false"
run=(env JAX_PLATFORMS=cpu "JAX_NUM_CPU_DEVICES=$cores" "XLA_FLAGS=${XLA_FLAGS:+$XLA_FLAGS }$flags"
    python -m vae_jcc.main "$@" --config.parallel=pmap)
if [ -n "$dry_run" ]; then
    printf '%q ' "${run[@]}"
    printf '\n'
else
    exec "${run[@]}"
fi
