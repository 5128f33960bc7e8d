"""Runs one training on Kubernetes as a JobSet, on nodes with GPUs or on a slice of TPUs.

python -m launch.jobset gpu --image=REGISTRY/vae_jcc --claim=runs --processes=2 --chips=8 [--dry-run] \\
    -- --config=configs/imagenet.py --workdir=/runs/imagenet
python -m launch.jobset tpu --image=... --claim=runs --processes=4 --chips=4 --accelerator=tpu-v5-lite-podslice \\
    --topology=4x4 [--dry-run] -- --config=...

The claim is a volume that all pods may write (ReadWriteMany), mounted at /runs. --dry-run prints the manifest.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from string import Template

_PORT = 8476


def make_manifest(kind: str, options: argparse.Namespace) -> str:
    """Returns the YAML of launch/jobset_KIND.yaml, filled in."""
    place = []
    if kind == "gpu" and options.processes > 1:
        # JobSet gives each pod a name in DNS; Kubernetes replaces $(PROCESS_ID), this pod's number.
        coordinator = f"{options.name}-worker-0-0.{options.name}:{_PORT}"
        place = [f"--coordinator={coordinator}", f"--num_processes={options.processes}", "--process_id=$(PROCESS_ID)"]
    elif kind == "gpu":
        place = ["--num_processes=1"]
    values = vars(options) | {"arguments": json.dumps([*place, *options.arguments])}
    return Template((Path(__file__).parent / f"jobset_{kind}.yaml").read_text()).substitute(values)


def main() -> int:
    """Parses the command line and applies the manifest; returns kubectl's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("gpu", "tpu"))
    parser.add_argument("--name", default="vae-jcc", help="of the JobSet")
    parser.add_argument("--image", required=True, help="container with this checkout installed as working directory")
    parser.add_argument("--claim", required=True, help="persistent volume claim that all pods may write")
    parser.add_argument("--processes", type=int, required=True, help="pods: nodes with GPUs, or hosts of the slice")
    parser.add_argument("--chips", type=int, required=True, help="GPUs or TPU chips of each pod")
    parser.add_argument("--accelerator", default="tpu-v5-lite-podslice", help="tpu: the node pool's accelerator")
    parser.add_argument("--topology", default="4x4", help="tpu: the slice's topology")
    parser.add_argument("--dry-run", action="store_true", help="print the manifest")
    parser.add_argument("arguments", nargs="+", help="of vae_jcc.main, after --")
    options = parser.parse_args()
    for key in ("name", "image", "claim", "accelerator", "topology"):
        if not re.fullmatch(r"[\w.:/@-]+", getattr(options, key)):
            parser.error(f"--{key} has characters that a manifest does not take: {getattr(options, key)!r}")
    manifest = make_manifest(options.kind, options)
    if options.dry_run:
        print(manifest, end="")
        return 0
    return subprocess.run(["kubectl", "apply", "-f", "-"], input=manifest, text=True, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
