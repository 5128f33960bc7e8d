"""Many inputs: batches, a progress bar, and one bad file among them that spoils nothing else."""

import sys
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from vae_jcc.cli.files import Input

Item = TypeVar("Item")
Result = TypeVar("Result")

# Bytes of loaded items that a batch may hold, so that large photographs come in small batches.
_MAX_BATCH_BYTES = 2**26


def error_line(error: Exception) -> str:
    """Returns an exception as one line without the class's name or an error number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def is_of_input(error: Exception) -> bool:
    """Returns whether an error speaks of the input: it is bad, cannot be read, or takes more memory than there is."""
    out_of_memory = isinstance(error, RuntimeError) and str(error).startswith("RESOURCE_EXHAUSTED")  # JAX's
    return isinstance(error, (ValueError, OSError, MemoryError)) or out_of_memory


class Bulk(Generic[Item, Result]):
    """Loads inputs, works on them in batches, and stores the results; counts what failed.

    Bad input (`is_of_input`) is reported in a line on standard error; everything else is a fault of the program and
    passes through.
    """

    def __init__(
        self,
        load: Callable[[Input], Item],
        compute: Callable[[Sequence[Item]], Sequence[Result]],
        store: Callable[[Input, Item, Result], None],
        batch_size: int = 1,
    ) -> None:
        """Takes the three steps: input to item, items to as many results, result to its place."""
        self._load, self._compute, self._store = load, compute, store
        self._batch_size = batch_size
        self.failed = 0

    def run(self, inputs: Sequence[Input]) -> int:
        """Works on all inputs and returns the exit status: 1 if any failed, else 0."""
        from rich.console import Console
        from rich.progress import Progress

        # Redirecting standard output would send results to standard error when only the latter is a terminal.
        with Progress(
            console=Console(stderr=True),
            disable=len(inputs) < 2 or not sys.stderr.isatty(),
            redirect_stdout=sys.stdout.isatty(),
            transient=True,
        ) as progress:
            task = progress.add_task("", total=len(inputs))
            batch: list[tuple[Input, Item]] = []
            held = 0
            for source in inputs:
                try:
                    item = self._load(source)
                except Exception as error:
                    self._report(source, error)
                    progress.advance(task)
                    continue
                batch.append((source, item))
                held += getattr(item, "nbytes", 0)
                if len(batch) == self._batch_size or held >= _MAX_BATCH_BYTES:
                    self._work(batch)
                    progress.advance(task, len(batch))
                    batch, held = [], 0
            self._work(batch)
        return 1 if self.failed else 0

    def _work(self, batch: list[tuple[Input, Item]]) -> None:
        if not batch:
            return
        try:
            results = self._compute([item for _, item in batch])
        except Exception as error:
            if len(batch) == 1 or not is_of_input(error):
                self._report(batch[0][0], error)
                return
            # One of them is bad: the others still have to be done.
            for one in batch:
                self._work([one])
            return
        for (source, item), result in zip(batch, results, strict=True):
            try:
                self._store(source, item, result)
            except BrokenPipeError:
                raise  # nobody reads any more: that is no fault of this input
            except Exception as error:
                self._report(source, error)

    def _report(self, source: Input, error: Exception) -> None:
        """Counts and prints an error that speaks of the input; raises any other."""
        if not is_of_input(error):
            raise error
        self.failed += 1
        print(f"vae-jcc: {source}: {error_line(error)}", file=sys.stderr)
