"""Puts a trained model into the package's zoo: the receiver in float16, with the figures of its test split.

    python tools/add_to_zoo.py runs/cifar10/artifact cifar10

Encoder and prior stay float32, so bytes and fingerprint are those of the run's own model. What the rounding of the
receiver costs is measured and recorded: "evaluation" holds the shipped model's figures, facts["top1_float32"] the
accuracy before.
"""

import argparse
from pathlib import Path

from vae_jcc.artifact import Artifact
from vae_jcc.artifact_writing import add_context, add_evaluation, save_artifact
from vae_jcc.data.sources import open_source
from vae_jcc.evaluate import evaluate_artifact
from vae_jcc.model_folder import ZOO

MOST_BYTES = 8_000_000


def main() -> None:
    """Parses the command line, writes vae_jcc/zoo/NAME and prints both evaluations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, help="folder of the run's model, in float32")
    parser.add_argument("name", help="in the zoo")
    options = parser.parse_args()
    full = Artifact.load(options.artifact)
    split = full.config.dataset.test_split
    source = open_source(full.dataset, split)
    before = evaluate_artifact(full, source)
    folder = ZOO / options.name
    save_artifact(
        folder,
        config=full.config,
        variables={part: full.variables(part) for part in full.parts if part != "context"},
        tables=full.tables,
        offset=full.offset,
        class_names=full.class_names,
        channels=full.channels,
        input_size=full.input_size,
        dataset=full.dataset,
        dataset_note=full.dataset_note,
        facts=full.facts | {"top1_float32": before["top1"]},
        dtype="float16",
    )
    if full.context:
        add_context(folder, full.context, full.read_context(), full.facts["context"])
    shipped = Artifact.load(folder)
    after = evaluate_artifact(shipped, source)
    add_evaluation(folder, after | {"dataset": full.dataset, "data_note": full.dataset_note, "split": split})
    assert shipped.fingerprint == full.fingerprint and after["bytes_stream"] == before["bytes_stream"]
    print(f"{folder}: {shipped.size_bytes:,} bytes, {', '.join(shipped.parts)}")
    for name, result in (("float32", before), ("float16", after)):
        print(f"{name} receiver: top-1 {result['top1']:.2%}, {result['bpp_file']:.4f} bpp (stream)")
    if shipped.size_bytes > MOST_BYTES:
        raise SystemExit(f"{shipped.size_bytes:,} bytes are more than a model in the package may have: {MOST_BYTES:,}.")


if __name__ == "__main__":
    main()
