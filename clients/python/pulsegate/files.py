"""The outbox as a file: made so that nobody else can read it, and why it can't be used.

An outbox holds messages and the session's token, with which anybody could go on in this client's place.
"""

from __future__ import annotations

import contextlib
import os
import stat


def make_private(path: str) -> None:
    """Makes the file if there is none, for its owner only (mode 0600). OSError if it can't be opened."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    os.close(os.open(path, flags, 0o600))


def keep_private(path: str) -> list[str]:
    """Takes others' rights away from an outbox that has them. Returns what to warn of, in sentences."""
    if os.name != "posix":
        return []  # modes say nothing there
    warnings = []
    for each in (path, path + "-wal"):  # SQLite gives its log the mode of the file, when it makes one
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(os.stat(each).st_mode)
            if mode & 0o077:
                warnings.append(_close_to_others(each, mode))
    folder = os.path.dirname(path)
    mode = os.stat(folder).st_mode
    if mode & 0o022 and not mode & stat.S_ISVTX:
        warnings.append(
            f"others can replace the outbox, for they can write in the folder {folder} "
            f"(mode {stat.S_IMODE(mode):o}): use a folder of your own"
        )
    return warnings


def _close_to_others(path: str, mode: int) -> str:
    warning = f"others could open {path} (mode {mode:o}), which holds messages and the session's token"
    try:
        os.chmod(path, mode & 0o700)
        return f"{warning}: now they can't"
    except OSError as error:
        return f"{warning}, and still can ({error.strerror}): chmod 600 {path}"


def why_unusable(path: str, error: Exception) -> str:
    """Why an outbox can't be used, and what to do. `path` is absolute.

    SQLite says "unable to open database file" of everything, so this looks for itself.
    """
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return _sentence(path, _why_no_folder(folder))
    if not _may(folder, os.X_OK):
        return _sentence(path, f"no permission to search the folder {folder} ({_user()})")
    if os.path.isdir(path):
        return _sentence(path, "it is a folder: name a file")
    if os.path.exists(path) and not _may(path, os.R_OK | os.W_OK):
        verb = "write" if _may(path, os.R_OK) else "read"
        return _sentence(path, f"no permission to {verb} the file ({_user()})")
    if not _may(folder, os.W_OK):
        return _sentence(path, f"no permission to create files in the folder {folder} ({_user()})")
    if "locked" in str(error):
        return _sentence(path, "another client has it open: give each client a file of its own")
    if "not a database" in str(error):
        return _sentence(path, "it is a file of another kind: name another one")
    return _sentence(path, str(error))


def _sentence(path: str, why: str) -> str:
    return f"the outbox {path} can't be used: {why}"


def _why_no_folder(folder: str) -> str:
    above = folder
    while not os.path.lexists(above) and above != os.path.dirname(above):
        above = os.path.dirname(above)
    if os.path.isdir(above) and not _may(above, os.X_OK):
        return f"no permission to search {above} ({_user()})"
    return f"there is no folder {folder}: create it"


def _may(path: str, mode: int) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(path, mode, effective_ids=effective)


def _user() -> str:
    if not hasattr(os, "geteuid"):
        return "this user"
    try:
        import pwd

        return f"user {pwd.getpwuid(os.geteuid()).pw_name}, uid {os.geteuid()}"
    except (ImportError, KeyError):
        return f"uid {os.geteuid()}"
