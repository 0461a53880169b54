# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""InsBank: one ordered set of the best rows of all datasets so far, that evolves as new ones appear."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, Features, Value
from huggingface_hub import CommitInfo

from hf_dsel.bank_folder import read, write
from hf_dsel.bank_makers import makers_of
from hf_dsel.bank_round import one_round
from hf_dsel.bank_rows import OtherKind, keys_of, kind_of
from hf_dsel.bank_state import History, New, Round, Settings, State, empty_state
from hf_dsel.ops.representation import Preference
from hf_dsel.progress import count, say
from hf_dsel.scoring import score
from hf_dsel.selecting import read_needed, with_columns
from hf_dsel.shortage import reasons_to_read
from hf_dsel.strategies import numbers, vectors
from hf_dsel.strategies.pibe import Combine, refuse_constant


class Bank:
    """Keeps the best `size` rows of every dataset it has been given, in order, without keeping the datasets.

    In each round the bank's rows and the new ones compete by PIBE's score, (1 + r') · (1 + q')^γ (Eqs. 7-10, see the
    strategy `pibe`); the best `size` are the bank, in this order, so that its first b rows are the choice for any
    budget b. Until `size` rows have come it is smaller.

    What was seen and not kept still counts, by `history`:

    - `"sketch"` (default): every row that is not in the bank is remembered by its embedding at `bits` bits a dimension
      (and 10 bytes more). It takes part in each election and cannot be elected: a new row like it is not new. With
      `preference=0` a row's distance is exact to all rows that came with it or later, and as the sketch estimates to
      those forgotten before. With a preference below 0 messages are passed among all rows ever seen, so `chunk` does
      not bound the memory; `neighbours` does.
    - `"paper"`: the responsibilities of the round before, carried over by Eqs. 4 and 5. All pairs of candidates.
    - `"repository"`: the same with the weights of the authors' code.
    - `None`: the past is forgotten.

    The order of rows in a dataset has no influence: equal scores are ordered by the text's hash. A row whose text is in
    the bank, or in the sketch, is not looked at again, so with a sketch an update can be repeated. Rows with tool calls
    are left out and counted: a bank keeps text.

    Args:
        size: rows it holds at most.
        quality, embedding: the columns to read; missing ones are computed with the strategy's default scorers. Vectors
            are used as they are: of length 1 for cosine.
        gamma, combine, preference, neighbours, iterations, damping: as in the strategy `pibe`.
        history: see above.
        momentum, decay: α and λ of Eq. 6, for "paper" and "repository".
        bits: of the sketch, a dimension.
        chunk: new rows a round at most; a larger dataset takes several rounds, in the order of the text's hash. It
            bounds the memory of a round. A row of an early chunk is then not compared with those of a later one while
            it is chosen, so more depends on the history. None: one round a dataset.

    Raises:
        ValueError: an option out of range.

    Source: InsBank (PIBE), Section 3; size 6,000, γ = 1, α = 0.5, λ = 0.99 (App. A).
    Differs: the paper's bank is `history="paper"`. The sketch is ours: it agrees far better with selecting from
        everything at once (README). Candidates are the new rows and the bank; the paper's Section 3.1 speaks of the
        last round's data too, its Section 3.2 and its code do not use them. Copies of a text count once.

    >>> import hf_dsel
    >>> first = Dataset.from_dict({"text": ["a", "b"], "quality": [1.0, 2.0], "embedding": [[1.0, 0.0], [0.0, 1.0]]})
    >>> later = Dataset.from_dict({"text": ["c", "d"], "quality": [3.0, 2.0], "embedding": [[0.7, 0.7], [0.0, 1.0]]})
    >>> bank = hf_dsel.Bank(size=2)
    >>> bank.update(first, source="first"), bank.update(later, source="later")  # doctest: +ELLIPSIS
    ((Round(number=1, ...
    >>> bank.dataset["text"][:], bank.dataset["source"][:]
    (['c', 'a'], ['later', 'first'])
    """

    def __init__(
        self,
        size: int = 6000,
        *,
        quality: str = "quality",
        embedding: str = "embedding",
        gamma: float = 1.0,
        combine: Combine = "multiply",
        preference: Preference = 0.0,
        neighbours: int | None = None,
        iterations: int = 200,
        damping: float = 0.5,
        history: History | None = "sketch",
        momentum: float = 0.5,
        decay: float = 0.99,
        bits: float = 3.0,
        chunk: int | None = None,
    ) -> None:
        self.settings = Settings(
            size=size, quality=quality, embedding=embedding, gamma=gamma, combine=combine, preference=preference,
            neighbours=neighbours, iterations=iterations, damping=damping, history=history, momentum=momentum,
            decay=decay, bits=bits, chunk=chunk,
        )  # fmt: skip
        self._state: State | None = None
        self._saved: dict[Path, str] = {}  # by folder, what this bank was there when it was loaded or saved last

    def update(
        self,
        dataset: Dataset,
        *,
        source: str,
        compute: bool = True,
        scorers: Sequence[Any] = (),
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> tuple[Round, ...]:
        """Let the rows of a new dataset compete with the bank's.

        All or nothing: if anything fails, the bank is as it was.

        Args:
            dataset: conversations, preference pairs or plain text in any format that hf_dsel reads; of the same kind as
                what is in the bank.
            source: a name for it, kept with each row.
            compute: compute missing columns with the default scorers, announced first.
            scorers: what to compute first, in place of the default scorers. The bank remembers what made its columns.
            cache_dir: folder of the scores that are computed, as in `hf_dsel.score`.

        Returns:
            the rounds this took: one, more with `chunk`, none where no row is new.

        Raises:
            MissingColumn, BadColumn: as in `select_by`.
            OtherKind: conversations, pairs and plain text do not mix.
            ValueError: embeddings of another width or by another model, a quality that is the same in all rows of the
                first round, or fewer than two rows in the first.
            MemoryError: the messages of a round do not fit.
        """
        if not isinstance(dataset, Dataset):
            raise TypeError(f"update takes a Dataset (one split), got {type(dataset).__name__}")
        if not isinstance(source, str) or not source.strip() or not _is_unicode(source):
            raise ValueError(f"source is {source!r}; give the dataset a name, such as 'alpaca'")
        if len(dataset) == 0:
            say(f"{source} has no rows; the bank is as it was")
            return ()
        state, rounds = self._state, []
        made_by, dataset = self._scored(dataset, state, source, list(scorers), cache_dir)
        new, state, given = self._read(dataset, state, source, made_by, compute=compute, cache_dir=cache_dir)
        chunk = self.settings.chunk or max(len(new.at), 1)
        for start in range(0, len(new.at), chunk):
            part = slice(start, start + chunk)
            some = New(new.at[part], new.keys[part], new.embeddings[part], new.quality[part])
            state = one_round(self.settings, dataset, state, some, source, **(given if start == 0 else _NOTHING))
            rounds.append(state.rounds[-1])
            free = self.settings.size - len(state.keys)
            say(f"{rounds[-1]}{f'; {free:,} places are free until more rows come' if free else ''}")
        if not rounds:
            say(f"{source} has nothing new ({_why_not(given)}); the bank is as it was")
            return ()
        self._state = state
        return tuple(rounds)

    @property
    def dataset(self) -> Dataset:
        """The bank, best first: the rows, and their score, representation, quality, source, source_row and round.

        Rows are `messages`, or `prompt`, `chosen` and `rejected`, or `text`: what TRL's trainers take.
        """
        if self._state is None:
            raise ValueError("the bank is empty; give it a dataset first: bank.update(dataset, source='alpaca')")
        state, features = self._state, dict(self._state.rows.features)
        columns: dict[str, Any] = {name: state.rows.data.column(name) for name in state.rows.column_names}
        for name in ("score", "representation", "quality"):
            if name in state.numbers:
                columns[name], features[name] = state.numbers[name], Value("float64")
        columns["source"] = [state.sources[i] for i in state.numbers["source"]]
        features["source"] = Value("string")
        for name in ("source_row", "round"):
            columns[name], features[name] = state.numbers[name], Value("int64")
        return Dataset.from_dict(columns, features=Features(features))

    @property
    def embeddings(self) -> npt.NDArray[np.float32]:
        """The vectors of the bank's rows, in the same order, `rows x dim`, to be read alone."""
        held = np.zeros((0, 0), np.float32) if self._state is None else self._state.embeddings.view()
        held.flags.writeable = False
        return held

    @property
    def history(self) -> tuple[Round, ...]:
        """What each round did, the first one first."""
        return () if self._state is None else self._state.rounds

    @property
    def history_bytes(self) -> int:
        """What the bank keeps, besides its rows, to judge new ones."""
        state = self._state
        if state is None:
            return 0
        memory = (state.memory.nbytes if state.memory else 0) + state.forgotten.nbytes
        return memory + (state.carried.nbytes if state.carried else 0)

    def __len__(self) -> int:
        """Rows in the bank now."""
        return 0 if self._state is None else len(self._state.keys)

    def __repr__(self) -> str:
        """One line: how full, from where, which history."""
        held = f"{len(self):,} of {self.settings.size:,} rows"
        rounds = self.history
        last = f" after {count(len(rounds), 'round')}" if rounds else ""
        return f"Bank({held}{last}, history={self.settings.history!r})"

    def top(self, b: int) -> Dataset:
        """The best b rows.

        Raises:
            ValueError: b below 1 or more than there are.
        """
        if not isinstance(b, Integral) or isinstance(b, bool) or not 1 <= b <= len(self):
            raise ValueError(f"b is {b!r}; the bank has {count(len(self), 'row')}, so ask for 1 to {len(self)}")
        return self.dataset.select(range(b))

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the bank into a folder, all or nothing: interrupted, the folder holds the old bank or the new one.

        Args:
            folder: a new one, or the one that this bank was loaded from or saved to.
            overwrite: also replace a bank that this one did not come from.

        Raises:
            WrongBank: the folder holds another bank, or another process saved there since.
            ValueError: the folder holds something else.
        """
        place = Path(folder).expanduser().resolve()
        self._saved[place] = write(
            self.settings, self._state, place, replaces=self._saved.get(place), overwrite=overwrite
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str], **expected: Any) -> Bank:
        """The bank that `save` wrote.

        Args:
            folder: where it is.
            expected: settings that it must have been made with, such as `size=6000`.

        Raises:
            FileNotFoundError: no bank there.
            WrongBank: made by another version or with other settings, or damaged; the text says which.
        """
        bank = cls()
        bank.settings, bank._state, name = read(folder, expected)
        bank._saved[Path(folder).expanduser().resolve()] = name
        return bank

    def push_to_hub(
        self, repo_id: str, *, private: bool = True, token: str | None = None, license: str | None = None,
        message: str | None = None,
    ) -> CommitInfo:  # fmt: skip
        """Publish the bank in one commit: `load_dataset(repo_id, split="train[:2000]")` is its best 2,000 rows.

        The repository holds the rows, best first, the state from which `from_hub` goes on, and a card with the history;
        a person's text in the card stays.

        Args:
            repo_id: a new repository, or one that holds an earlier state of this bank.
            private: of a new repository; one that exists keeps its visibility.
            token: of the Hub; None takes HF_TOKEN or that of `hf auth login`.
            license: of the rows. None keeps the one that the card states.
            message: the commit's title; by default what the rounds since the last push did.

        Raises:
            WrongBank: the repository holds a bank that this one did not come from, or has gone further.
            NotPublished: no token, a token without rights, a connection that broke, a commit in between.
            ValueError: an empty bank, or a repository that holds something else.
        """
        from hf_dsel.bank_hub import push

        rows = self.dataset
        return push(
            self.settings, self._state, rows, repo_id, private=private, token=token, license=license,
            message=message,
        )  # fmt: skip

    @classmethod
    def from_hub(cls, repo_id: str, *, revision: str | None = None, token: str | None = None, **expected: Any) -> Bank:
        """The bank that `push_to_hub` published, to be updated and pushed again.

        Args:
            repo_id: where it is.
            revision: an earlier commit, a branch or a tag.
            token: of the Hub; None takes HF_TOKEN or that of `hf auth login`.
            expected: settings that it must have been made with, such as `size=6000`.

        Raises:
            NotFetched: no such repository, or no bank in it.
            WrongBank: as in `load`.
        """
        from hf_dsel.bank_hub import pull

        bank = cls()
        bank.settings, bank._state = pull(repo_id, expected, revision=revision, token=token)
        return bank

    def figure(self) -> Any:
        """A picture of where the bank's rows come from, round by round (a matplotlib Figure)."""
        from hf_dsel.bank_figure import composition

        return composition(self.history, size=self.settings.size)

    def _scored(
        self, dataset: Dataset, state: State | None, source: str, scorers: list[Any], cache_dir: Any
    ) -> tuple[dict[str, str], Dataset]:
        """What makes the columns that are read, and the dataset with those that `scorers` make."""
        kind = kind_of(dataset.column_names)
        if state is not None and state.kind != kind:
            raise OtherKind(f"the bank holds {_KINDS[state.kind]}, and {source} {_KINDS[kind]}; keep a bank for each")
        made_by = makers_of(self.settings.rule(), dataset, state, scorers)
        return made_by, score(dataset, scorers, cache_dir=cache_dir) if scorers else dataset

    def _read(
        self,
        dataset: Dataset,
        state: State | None,
        source: str,
        made_by: dict[str, str],
        *,
        compute: bool,
        cache_dir: Any,
    ) -> tuple[New, State, dict[str, Any]]:
        """The rows that are new, distinct and complete, in the order of their keys."""
        kind, rule, rows = kind_of(dataset.column_names), self.settings.rule(), len(dataset)
        dataset = with_columns(dataset, rule, compute=compute, cache_dir=cache_dir)
        arrays, usable, left_out = read_needed(dataset, list(rule.needs()), [])
        embeddings = vectors(arrays, self.settings.embedding) if len(usable) else np.zeros((0, 0), np.float32)
        if len(usable) and state is not None and len(state.keys) and embeddings.shape[1] != state.embeddings.shape[1]:
            raise ValueError(
                f"the embeddings of {source} have {embeddings.shape[1]} dimensions, those of the bank "
                f"{state.embeddings.shape[1]}; embed {source} with the model that the bank was begun with"
            )
        keys, readable, unread = keys_of(dataset, usable, kind)
        left_out = left_out | unread
        quality = numbers(arrays, self.settings.quality) if self.settings.gamma > 0 else np.zeros(len(usable))
        known = np.zeros(0, np.uint64) if state is None else np.concatenate([state.keys, state.forgotten])
        order = np.lexsort((_hashes(embeddings), -quality, keys))  # of copies, the best first
        order = order[readable[order]]
        first = np.ones(len(order), np.bool_)
        first[1:] = keys[order][1:] != keys[order][:-1]
        fresh = order[first & ~np.isin(keys[order], known)]
        new = New(
            usable[fresh],
            keys[fresh],
            np.asarray(embeddings[fresh], np.float32),
            quality[fresh],
        )
        given = {"given": rows, "seen": len(order) - len(fresh), "left_out": left_out}
        if state is None:
            state = empty_state(self.settings, kind, embeddings.shape[1])
        if self.settings.gamma > 0 and len(state.keys) == 0 and len(fresh) > 1:
            refuse_constant(new.quality, self.settings.quality)
        return new, replace(state, made_by=state.made_by | made_by), given


_KINDS = {"messages": "conversations", "pairs": "preference pairs", "text": "plain text"}
_NOTHING: dict[str, Any] = {"given": 0, "seen": 0, "left_out": {}}


def _is_unicode(text: str) -> bool:
    """Whether it can be written to a file: no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _hashes(embeddings: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """A number for each vector, whatever row it stands in."""
    found = (blake2b(row.tobytes(), digest_size=8).digest() for row in np.ascontiguousarray(embeddings))
    return np.frombuffer(b"".join(found), np.uint64)


def _why_not(given: dict[str, Any]) -> str:
    parts = [f"{given['seen']:,} seen before"] if given["seen"] else []
    return "; ".join(parts + [f"{n:,} left out: {why}" for why, n in reasons_to_read(given["left_out"]).items()])
