# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Answers of a language model, kept for good: one line a reply, written at once, never changed."""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO


@dataclass(frozen=True)
class Reply:
    """What a server sent back. `finish` is its finish_reason; the token counts are None where it gave none."""

    text: str
    finish: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass
class AnswerStore:
    """A folder of JSON-lines files. Each process appends to a file of its own and reads all of them.

    So ranks and users can share a folder, and a line that a killed process left half-written spoils nothing: it is
    passed over, and nobody writes behind it. Only keys are held in memory; the texts are read when asked for.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> AnswerStore(Path(folder)).add("k1", Reply("4"))
    >>> AnswerStore(Path(folder)).get("k1").text
    '4'
    """

    folder: Path
    _places: dict[str, tuple[Path, int]] = field(default_factory=dict, init=False, repr=False)
    _read_to: dict[Path, int] = field(default_factory=dict, init=False, repr=False)
    _own: BinaryIO | None = field(default=None, init=False, repr=False)
    _own_path: Path | None = field(default=None, init=False, repr=False)
    _owner: int = field(default=0, init=False, repr=False)

    def get(self, key: str) -> Reply | None:
        """The reply stored under a key, or None."""
        if key not in self._places:
            return None
        path, start = self._places[key]
        with open(path, "rb") as file:
            file.seek(start)
            entry = json.loads(file.readline())
        return Reply(entry["text"], entry["finish"], entry["tokens_in"], entry["tokens_out"])

    def add(self, key: str, reply: Reply, **about: Any) -> None:
        """Write a reply; on return it is on disk.

        Args:
            key: what it is found by.
            reply: the reply.
            about: more for a person who reads the file.
        """
        file, path = self._file()
        line = json.dumps({"key": key, **asdict(reply), **about}, ensure_ascii=True) + "\n"
        start = file.tell()
        try:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        except OSError:  # the disk is full, say: what was half-written is left behind, and a new file is begun
            self.close()
            self._own_path = None
            raise
        self._places[key] = (path, start)
        self._read_to[path] = file.tell()

    def refresh(self) -> None:
        """Read what was added since: by earlier runs, and by other processes."""
        for path in sorted(self.folder.glob("*.jsonl")) if self.folder.is_dir() else []:
            for key, start in self._new_lines(path):
                self._places.setdefault(key, (path, start))

    def close(self) -> None:
        """Close the file of this process. A later `add` goes on in it."""
        if self._own is not None and self._owner == os.getpid():
            self._own.close()
        self._own = None

    def __post_init__(self) -> None:
        self.refresh()

    def _new_lines(self, path: Path) -> Iterator[tuple[str, int]]:
        start = self._read_to.get(path, 0)
        if path.stat().st_size <= start:
            return
        with open(path, "rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # half-written: by a process that was killed, or by one that is still writing
                try:
                    entry = json.loads(line)
                    key = entry["key"]
                    Reply(entry["text"], entry["finish"], entry["tokens_in"], entry["tokens_out"])
                except (ValueError, KeyError, TypeError):
                    key = None
                if isinstance(key, str):
                    yield key, start
                start += len(line)
                self._read_to[path] = start

    def _file(self) -> tuple[BinaryIO, Path]:
        if self._owner != os.getpid():  # a new process, perhaps a fork of the one that wrote before
            self._owner, self._own, self._own_path = os.getpid(), None, None
        if self._own_path is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._own_path = self.folder / f"{socket.gethostname()}-{self._owner}-{uuid.uuid4().hex[:8]}.jsonl"
        if self._own is None:
            self._own = open(self._own_path, "ab")
        return self._own, self._own_path
