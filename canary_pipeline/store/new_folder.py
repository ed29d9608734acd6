"""A rollout's folder is made whole, or what was made of it is taken back."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from canary_pipeline.outside.claim import ClaimUnusableError
from canary_pipeline.store.journal import StateUnusableError


class FolderUnusableError(OSError):
    """A rollout cannot keep its files where it should; the message says what to set."""

    def __init__(self, folder: Path, error: OSError) -> None:
        """Say which folder and why."""
        helps = "start where you can write, or give --output-dir, on a file system with locks"
        super().__init__(f"the folder {folder} cannot be used ({error.strerror or error}): {helps}")


@contextmanager
def whole_or_none(folder: Path) -> Iterator[None]:
    """Take back what the body made of a folder if it fails: nothing has begun in it by then.

    Raises:
        FileExistsError: As the body raises it, of a folder that is somebody else's.
        FolderUnusableError: When the folder could not be written.
        StateUnusableError, ClaimUnusableError: As the body raises them.
    """
    there: set[Path] = set()
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        if folder.is_dir():
            there.update(folder.iterdir())
        yield
    except FileExistsError:
        raise
    except (StateUnusableError, ClaimUnusableError):
        _take_back(folder, there, missing)
        raise
    except OSError as error:
        _take_back(folder, there, missing)
        raise FolderUnusableError(folder, error) from None


def _take_back(folder: Path, there: set[Path], missing: list[Path]) -> None:
    with suppress(OSError):  # what cannot be taken back is an empty folder at worst
        for made in set(folder.iterdir()) - there:
            if made.is_dir():
                shutil.rmtree(made)
            else:
                made.unlink()
        for path in missing:
            path.rmdir()
