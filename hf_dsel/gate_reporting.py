# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""What a gate found in a pool, for a person who decides where to draw the line: numbers, and rows to look at."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap

import numpy as np
from datasets import Dataset

from hf_dsel.bank_report import table
from hf_dsel.gate_examples import Doubles, Example, Group, around, in_lines, on_a_line, picked
from hf_dsel.gate_findings import Cut, Judged, Kind, Thresholds, kinds_of
from hf_dsel.junk_share import about_width
from hf_dsel.narrowing import MOST_FLIPPED, MOST_JUNK, flip_columns, gate_columns, score_by_gates
from hf_dsel.progress import count
from hf_dsel.scorer_marks import scorers_of
from hf_dsel.scorers.flipped_labels import COLUMN as FLIPPED
from hf_dsel.scorers.gate import Gate
from hf_dsel.seeds import check_seed
from hf_dsel.shortage import reasons_to_read

LINES = (0.1, 0.25, 0.5, 0.75, 0.9)  # thresholds in the table, beside the one of gate=True
WEAK = 0.7  # AUC below which a kind is hardly seen
SHOWN = 8  # kinds with examples in the terminal; the page has all
FEWER, ROUNDING = 0.75, 0.005  # of the share's lower end: with fewer than that it is another pool


@dataclass(frozen=True, eq=False)
class GateReport:
    """What a gate found. `str()` gives it to a terminal, `save_html` to a browser.

    `sound`: float64 (rows,), the probability of each row, of a pair that of its less sound side; NaN where there is
    none. `problems`: how many rows have none, by reason. `default`: the threshold that `gate=True` takes, None where
    even the soundest rows are too likely junk. `line`: the threshold that the examples are around. `share`: of junk
    among the answers that the gate learned from, with its 95 % interval, and `learned_from` how many rows that were;
    None without the gate itself. `estimated_on`: how many rows of another pool the share is of, if it is. `flipped`:
    how many pairs look flipped by the column `gate_flipped`, None without it, and `flips` the surest ones; their
    `sound` is the probability that they are not. `soundest`: the highest probability of a row that does not look
    flipped, None where there is no such row.
    """

    sound: Doubles
    problems: dict[str, int]
    default: float | None
    line: float
    cuts: tuple[Cut, ...]
    kinds: tuple[Kind, ...]
    share: tuple[float, float, float] | None
    learned_from: int | None
    groups: tuple[Group, ...]
    control: tuple[Example, ...]
    flipped: int | None = None
    flips: tuple[Example, ...] = ()
    soundest: float | None = None
    estimated_on: int | None = None

    @property
    def judged(self) -> int:
        """How many rows have a probability."""
        return int(np.isfinite(self.sound).sum())

    @property
    def line_written(self) -> str:
        """The threshold that the examples are around, in as few digits as keep the same rows."""
        return next(cut.written for cut in self.cuts if cut.lowest == self.line)

    def headline(self) -> tuple[str, str]:
        """How much junk is expected, in a few words; and what the gate estimates, in a sentence."""
        junk = float(np.nansum(1 - self.sound))
        few = f"About {junk:,.0f} of {count(self.judged, 'row')} ({junk / max(1, self.judged):.1%}) are probably junk."
        if self.share is None:
            return few, "That is the sum of the probabilities; only the gate itself knows an interval for it."
        share, low, high = self.share
        learned = f"the answers in the {self.learned_from or 0:,} rows that the gate learned from"
        if self.estimated_on is not None:
            learned = f"the answers in {self.estimated_on:,} rows of this pool, which the gate did not learn from,"
        within = f"95% interval: {low:.1%} to {high:.1%}{about_width(share, low, high)}"
        said = f"Of {learned} it estimates {share:.1%} to be junk ({within})."
        # of conversations and pairs the least sound answer counts, so more than the share says nothing
        if self.estimated_on is None and junk / max(1, self.judged) < FEWER * low - ROUNDING:
            said += " This pool looks cleaner: gate.for_pool(dataset), or --for-pool, estimates the share in it."
        return few, said

    def cells(self) -> tuple[list[list[str]], list[list[str]]]:
        """The tables of thresholds and of kinds as texts, their heads first."""
        cuts = [["keep from", "kept", "dropped", "flipped", "junk among kept", "sound lost", ""]]
        for cut in self.cuts:
            junk = "-" if cut.junk is None else f"{cut.junk:.1%}"
            numbers = [f"{cut.kept:,}", f"{cut.dropped:,}", f"{cut.flipped:,}", junk, f"{cut.lost:,.0f}"]
            cuts.append([cut.written, *numbers, "gate=True" if cut.by_share else ""])
        if self.flipped is None:
            cuts = [[*row[:3], *row[4:]] for row in cuts]
        kinds = [["kind", "AUC", "share", "expected rows", f"rows below {self.line_written}"]]
        for kind in self.kinds:
            auc = "-" if kind.auc is None else f"{kind.auc:.3f}"
            share = "-" if kind.share is None else f"{kind.share:.1%}"
            kinds.append([kind.name, auc, share, f"{kind.expected:,.0f}", f"{kind.below:,}"])
        if self.share is None:
            kinds = [[row[0], *row[3:]] for row in kinds]
        return cuts, kinds

    def __str__(self) -> str:
        """As wide as the terminal, or 100 columns."""
        width = min(140, max(60, shutil.get_terminal_size((100, 24)).columns))
        lines = [*self.headline(), *self.unjudged(), ""]
        cuts, kinds = self.cells()
        lines += [table(cuts[0], cuts[1:], left=("",)), *self.no_default(), ""]
        lines.append(table(kinds[0], [[on_a_line(row[0], 30), *row[1:]] for row in kinds[1:]], left=("kind",)))
        if self.share is not None:
            rare = ", - are too few" if self.rare() else ""
            lines.append(f"AUC: how well copies broken so are told from the pool's rows; 0.5 is not at all{rare}")
        if self.weak():
            lines += wrap(f"Hardly seen here: {', '.join(self.weak())}.", width)
        for group in self.groups[:SHOWN]:
            kind = next(k for k in self.kinds if k.name == group.reason)
            lines += ["", f"{on_a_line(kind.name, 30)}, {count(kind.below, 'row')} below {self.line_written}"]
            lines += [f"  {on_a_line(kind.imitates, width - 2)}"] if kind.imitates else []
            lines += [line for e in (*group.worst[:2], *group.below[:1]) for line in in_lines(e, width)]
        if len(self.groups) > SHOWN:
            more = ", ".join(on_a_line(group.reason, 30) for group in self.groups[SHOWN:])
            lines += ["", f"The page (--report) shows rows of these too: {more}"]
        if self.flipped is not None:
            surest = [replace(e, sound=1 - e.sound) for e in self.flips[:3]]
            lines += ["", self.flips_in_words(), *(line for e in surest for line in in_lines(e, width))]
        return "\n".join(lines)

    def weak(self) -> list[str]:
        """The kinds of junk that are hardly told from the pool's rows."""
        return [on_a_line(kind.name, 30) for kind in self.kinds if kind.auc is not None and kind.auc < WEAK]

    def rare(self) -> bool:
        """Whether there is a kind that too few rows of this pool can have."""
        return any(kind.auc is None for kind in self.kinds)

    def unjudged(self) -> list[str]:
        """Lines on the rows without a probability."""
        n = sum(self.problems.values())
        found = [f"{count(n, 'row')} {'has' if n == 1 else 'have'} no probability, and any threshold drops them:"]
        return [*found, *(f"  {n:,} x {why}" for why, n in reasons_to_read(self.problems).items())] if n else []

    def flips_in_words(self) -> str:
        """A sentence on the pairs that look flipped."""
        if not self.flipped:
            return f"No pair looks flipped ({FLIPPED} above {MOST_FLIPPED:g})."
        pairs = f"{count(self.flipped, 'pair')} {'looks' if self.flipped == 1 else 'look'} flipped"
        return (
            f"{pairs}: chosen and rejected in each other's place ({FLIPPED} above {MOST_FLIPPED:g}). gate=True leaves "
            "these out too, and a number such as gate=0.8 those above 0.2."
        )

    def no_default(self) -> list[str]:
        """A line that says why there is no threshold for gate=True; none where no row has a probability."""
        if self.default is not None or not self.judged:
            return []
        if self.soundest is None:
            return ["gate=True takes none: every pair with a probability looks flipped"]
        return [
            f"gate=True takes none: at most {MOST_JUNK:.0%} junk is too much to ask where the soundest is at "
            f"{self.soundest:.1%}"
        ]

    def command(self, place: str, *, threshold: bool) -> str:
        """The command that chooses among the rows that are left, or why there is none.

        Args:
            place: its dataset, as it stands in a shell.
            threshold: by the threshold that the examples are around, not by gate=True.
        """
        if not self.judged:
            return "no row has a probability, so there is nothing to choose among"
        by_share = self.default is not None and not threshold
        if not by_share and not next(cut.kept for cut in self.cuts if cut.lowest == self.line):
            some = [cut.written for cut in self.cuts if cut.kept and not cut.by_share]
            step = f"; of the thresholds shown {some[-1]} is the highest that keeps some" if some else ""
            return f"no row is left from {self.line_written} on{step}"
        lowest = "" if by_share else f" {self.line_written}"
        return f"hf-dsel select {place} --gate{lowest} --strategy NAME --k ROWS --out SUBSET"

    def save_html(self, path: str | os.PathLike[str], *, title: str = "What the gate found") -> None:
        """Write it as one HTML file that needs nothing else: no network, no script.

        Args:
            path: the file; one that is there is replaced.
            title: what stands above it, such as the pool's name.

        Raises:
            MissingExtra: no Jinja2, which torch brings.
        """
        from hf_dsel.gate_page import page

        text = page(self, title)
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)


def gate_report(
    dataset: Dataset,
    gate: Gate | None = None,
    *,
    threshold: float | None = None,
    examples: int = 3,
    seed: int = 0,
) -> GateReport:
    """What a gate found in a pool: how much junk, what each threshold would drop, and rows to look at by kind of junk.

        junk among the kept  =  Σ (1 − P(sound)) / rows kept,   over the rows with P(sound) ≥ threshold

    A person decides: the examples are the least sound rows of each kind, those just below and just above a threshold,
    which it decides about, and some kept rows for control.

    Args:
        dataset: the pool, in any format that `hf_dsel.rows` reads. Of a preference pair the less sound side counts;
            where it has a column `gate_flipped`, pairs that look flipped are shown too.
        gate: a gate; one that has not learned learns from this pool. Without it the columns that a gate wrote are read,
            and where there are none `Gate()` learns.
        threshold: the examples are around this probability; that of `gate=True` when left out, or 0.5 where there is
            none.
        examples: rows of each sort.
        seed: of the draws among rows.

    Raises:
        TypeError: not a Dataset; a column `gate` without numbers.
        ValueError: an option out of range; columns that another gate wrote; what `Gate.fit` refuses.
        UnknownFormat, BadColumn: the columns cannot be read.

    >>> pool = Dataset.from_dict({"instruction": ["Sing!"] * 3, "output": ["La la.", "", "Tra la."],
    ...                           "gate": [0.99, 0.02, 0.98], "gate_reason": ["cut_short", "placeholder", "repeated"]})
    >>> [cut.kept for cut in gate_report(pool).cuts]
    [2, 2, 2, 2, 2, 2]
    """
    if not isinstance(dataset, Dataset):
        raise TypeError(f"gate_report takes a Dataset, got {type(dataset).__name__}; give one split, not streamed")
    check_options(threshold, examples)
    check_seed(seed)
    dataset, gate = with_gate(dataset, gate)
    names = list(gate_columns(gate or True, dataset.column_names))
    judged = Judged.of(dataset, names)
    sound = judged.sound
    known = np.flatnonzero(np.isfinite(sound))
    thresholds = Thresholds.of(dataset, names, sound)
    default = thresholds.default()
    open_to = known[~thresholds.flips(True)[known]]
    line = float(threshold if threshold is not None else 0.5 if default is None else default)
    numbers = {x for x in LINES if default is None or abs(x - default) > 0.004}
    numbers |= {line} if default is None or threshold is not None else set()
    cuts = [thresholds.cut(x) for x in numbers] + ([] if default is None else [thresholds.cut(True)])
    asked = line if threshold is not None or default is None else True
    stays, flips = thresholds.stays(asked), thresholds.flips(asked)
    rest = known[~flips[known]]
    kinds = kinds_of(judged, known, gate, ~flips & (sound < line))
    rng = np.random.default_rng(seed)
    of_kind = {name: rest[judged.reason[rest] == i] for i, name in enumerate(judged.reasons)}
    groups = [(k.name, around(of_kind[k.name], sound, line, examples, rng)) for k in kinds if k.below]
    kept = np.setdiff1d(
        np.flatnonzero(stays), np.concatenate([np.zeros(0, np.int64), *(part for g in groups for part in g[1])])
    )
    control = np.sort(rng.choice(kept, min(2 * examples, len(kept)), replace=False)).astype(np.int64)

    def about(i: int, said: tuple[tuple[str, str], ...]) -> Example:
        side = ("chosen", "rejected")[judged.side[i]] if len(names) > 1 else None
        return Example(i, float(sound[i]), judged.reasons[judged.reason[i]], said, side)

    found, controls = picked(dataset, groups, control, about)
    flipped, surest = _flips(dataset, thresholds.flip, 2 * examples, rng)
    junk = None if gate is None or gate.learned is None else gate.learned.junk
    return GateReport(
        sound, judged.problems, default, line, tuple(sorted(cuts, key=lambda cut: (cut.lowest, cut.by_share))), kinds,
        None if junk is None else (junk.share, junk.low, junk.high),
        None if gate is None or gate.learned is None else gate.learned.rows_used, found, controls, flipped, surest,
        float(sound[open_to].max()) if len(open_to) else None,
        None if gate is None or gate.learned is None else gate.learned.estimated_on,
    )  # fmt: skip


def _flips(dataset: Dataset, flip: Doubles, n: int, rng: np.random.Generator) -> tuple[int | None, tuple[Example, ...]]:
    """How many pairs are more likely flipped than not, and the surest ones; None where nothing says so of any."""
    right = 1 - flip
    known = np.flatnonzero(np.isfinite(right))
    if not len(known):
        return None, ()
    surest = around(known, right, 1 - MOST_FLIPPED, n, rng)[0]
    _, found = picked(dataset, [], surest, lambda i, said: Example(i, float(right[i]), "", said))
    return int((right[known] < 1 - MOST_FLIPPED).sum()), found


def check_options(threshold: float | None, examples: int) -> None:
    """Raise for a threshold or a number of examples that cannot be."""
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold} is a probability of being sound, above 0 and at most 1")
    if not 1 <= examples <= 100:
        raise ValueError(f"examples={examples}; show from 1 to 100 rows of each sort")


def written_columns(dataset: Dataset, gate: Gate | None) -> list[str]:
    """The columns of a gate that the pool has: those of this gate, or, without one, all that there must be or none.

    Raises:
        ValueError: columns of another gate; those of one side of pairs alone.
    """
    names = list(gate_columns(gate or True, dataset.column_names))
    there = [name for name in names if name in dataset.column_names]
    if gate is None:
        if there and len(there) < len(names):
            missing = next(name for name in names if name not in there)
            raise ValueError(f"the pairs have the column {there[0]!r} and no {missing!r}; remove it to have both made")
        return there
    learned = None if gate.learned is None else gate.settings()["learned"]
    marks = scorers_of(dataset)
    for name in there:
        if learned is None or marks.get(name, {}).get("learned") != learned:
            raise ValueError(
                f"the dataset has a column {name!r} that this gate did not write. Remove it, with its _reason and "
                "_status, or leave the gate out to see what is in it."
            )
    return there


def with_gate(
    dataset: Dataset, gate: Gate | None, *, cache_dir: str | os.PathLike[str] | None = None
) -> tuple[Dataset, Gate | None]:
    """The pool with the columns of a gate, and that gate, which has learned; None where the columns were there.

    Both sides of preference pairs are judged by one gate, which learns from the chosen ones; and
    `hf_dsel.FlippedLabels` looks for flipped labels, if the pairs are enough for it.

    Raises:
        ValueError: the pool has columns of another gate; what `Gate.fit` refuses.
    """
    there = written_columns(dataset, gate)
    if gate is None and there:
        return dataset, None
    gate = (gate or Gate()).fitted(dataset)
    columns = gate_columns(gate, dataset.column_names)
    if all(name in there for name in columns):
        return dataset, gate
    makers = {**columns, **flip_columns(gate, dataset.column_names)}
    missing = [maker for name, maker in makers.items() if name not in dataset.column_names]
    return score_by_gates(dataset, missing, cache_dir=cache_dir), gate
