"""Where models lie: those that ship with the package (the zoo), and folders that training wrote."""

from pathlib import Path

ZOO = Path(__file__).parent / "zoo"
MODEL_FILE = "model.json"  # by which a folder is known to be a model


class ArtifactError(ValueError):
    """A model that cannot be found or used; the message names the cause and the cure."""


def zoo_names() -> list[str]:
    """Returns the names of the models that ship with the package."""
    return sorted(path.parent.name for path in ZOO.glob(f"*/{MODEL_FILE}"))


def resolve(name: str | Path) -> Path:
    """Returns the folder of a zoo name or a path.

    Raises:
        ArtifactError: it is neither; the message lists what the zoo has.
    """
    if str(name) in zoo_names():
        return ZOO / str(name)
    folder = Path(name)
    if (folder / MODEL_FILE).is_file():
        return folder
    if (folder / "artifact" / MODEL_FILE).is_file():
        raise ArtifactError(f"{folder} is a run's workdir: its model is {folder / 'artifact'}.")
    if folder.is_dir():
        raise ArtifactError(f"{folder} is no model: it has no {MODEL_FILE}. Training writes one to WORKDIR/artifact.")
    known = ", ".join(zoo_names()) or "no models"
    raise ArtifactError(f"No model {str(name)!r}: there is no such folder, and the package ships {known}.")
