"""Folders that are replaced whole or not at all, wherever the user interrupts."""

import os

import pytest

from vae_jcc import files


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interruption_leaves_the_old_folder_or_the_new_one(after, tmp_path, monkeypatch):
    """Before the first rename, between the two, and after the second."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()
    replace, calls = os.replace, []

    def interrupted(source, target):
        calls.append(target)
        if after > 0:
            replace(source, target)
        if len(calls) == max(after, 1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt), files.replace_folder(folder) as new:
            (new / "new").touch()
    assert [path.name for path in folder.iterdir()] == (["new"] if after == 2 else ["old"])
    assert list(tmp_path.iterdir()) == [folder]
