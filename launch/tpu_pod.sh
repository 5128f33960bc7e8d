#!/usr/bin/env bash
# One training on a Cloud TPU slice, through queued resources. Run it from the checkout, with gcloud logged in:
#
#   launch/tpu_pod.sh [--dry-run] train    create, install and run; after a preemption all of it again, until it is done
#   launch/tpu_pod.sh [--dry-run] create | install | run | delete      one step of it
#
# Settings are environment variables:
#   NAME, ZONE       of the slice; BUCKET: name of a bucket with hierarchical namespace, which all hosts mount
#   ARGUMENTS        of vae_jcc.main, with --workdir under /mnt/BUCKET
#   ACCELERATOR      default v5litepod-16          RUNTIME   default v2-alpha-tpuv5-lite
#   PROVISIONING     default --spot (cheap, may be preempted); "" for on-demand
set -euo pipefail

dry_run=
if [ "${1:-}" = --dry-run ]; then
    dry_run=1
    shift
fi
step=${1:-}
: "${NAME:=vae-jcc}" "${ZONE:?set ZONE, such as us-west4-a}" "${BUCKET:?set BUCKET, which all hosts mount}"
: "${ACCELERATOR:=v5litepod-16}" "${RUNTIME:=v2-alpha-tpuv5-lite}" "${ARGUMENTS:?set ARGUMENTS of vae_jcc.main}"
PROVISIONING=${PROVISIONING---spot}
# Google's own instructions for Ubuntu: its key, its repository, the package.
REPOSITORY=https://packages.cloud.google.com/apt
GCSFUSE="(curl -fsS $REPOSITORY/doc/apt-key.gpg | sudo tee /usr/share/keyrings/gcsfuse.asc >/dev/null &&
 echo deb [signed-by=/usr/share/keyrings/gcsfuse.asc] $REPOSITORY gcsfuse-\$(lsb_release -cs) main |
 sudo tee /etc/apt/sources.list.d/gcsfuse.list && sudo apt-get update -q && sudo apt-get install -qy gcsfuse)"

do_it() {
    if [ -n "$dry_run" ]; then
        printf '%q ' "$@"
        printf '\n'
    else
        "$@"
    fi
}

state() { gcloud compute tpus queued-resources describe "$NAME" --zone="$ZONE" --format='value(state.state)' 2>/dev/null; }

everywhere() { do_it gcloud compute tpus tpu-vm ssh "$NAME" --zone="$ZONE" --worker=all --command="$1"; }

create() {
    if [ -n "$dry_run" ] || [ -z "$(state || true)" ]; then # else it is there, or on its way
        # shellcheck disable=SC2086 # PROVISIONING is none or several options
        do_it gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" --zone="$ZONE" \
            --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME" $PROVISIONING
    fi
    if [ -n "$dry_run" ]; then
        return
    fi
    while [ "$(state)" != ACTIVE ]; do
        case $(state) in
        FAILED | SUSPENDED) echo "tpu_pod.sh: the request failed; see: gcloud compute tpus queued-resources describe $NAME --zone=$ZONE" >&2 && return 1 ;;
        esac
        sleep 30
    done
}

install() {
    # The images' Python is too old: uv brings one. The checkout is sent as committed.
    local archive
    archive=$(git rev-parse --git-dir)/vae_jcc.tar.gz # in there it is this checkout's own, and git does not see it
    do_it git archive --format=tar.gz --prefix=vae_jcc/ --output="$archive" HEAD
    do_it gcloud compute tpus tpu-vm scp "$archive" "$NAME:" --zone="$ZONE" --worker=all
    everywhere "tar -xzf vae_jcc.tar.gz && python3 -m pip install -q --user uv && ~/.local/bin/uv venv --clear --python=3.12 ~/venv &&
 ~/.local/bin/uv pip install -q --python ~/venv/bin/python -e ~/vae_jcc 'jax[tpu]' &&
 (command -v gcsfuse || $GCSFUSE) && sudo mkdir -p /mnt/$BUCKET && sudo chmod 777 /mnt/$BUCKET && (mountpoint -q /mnt/$BUCKET || gcsfuse --implicit-dirs --rename-dir-limit=100000 $BUCKET /mnt/$BUCKET)"
}

run() { everywhere "cd ~/vae_jcc && ~/venv/bin/python -m vae_jcc.main $ARGUMENTS"; }

delete() { do_it gcloud compute tpus queued-resources delete "$NAME" --zone="$ZONE" --force --quiet; }

train() {
    while true; do
        create
        install
        if run; then
            break
        fi
        if [ "$(state)" = ACTIVE ]; then # the slice is there, so the training itself failed
            echo "tpu_pod.sh: the training failed; the slice still runs and costs: launch/tpu_pod.sh run, or delete" >&2
            return 1
        fi
        delete # preempted: what is left of the slice cannot be started again
    done
    delete
}

case $step in
train | create | install | run | delete) "$step" ;;
*) echo "usage: launch/tpu_pod.sh [--dry-run] train|create|install|run|delete" >&2 && exit 2 ;;
esac
