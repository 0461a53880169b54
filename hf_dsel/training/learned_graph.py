# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""A skills graph that was learned from trainings: the losses behind it, its edges, its file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

FORMAT = "hf_dsel_skill_graph"
LossOf = dict[str, float]  # skill of the held-out rows → nats a token


@dataclass(frozen=True, kw_only=True)
class LearnedGraph:
    """How far training on one skill lowered the held-out loss of another; `edges` is what `SkillIt(graph=)` takes.

    With L_j(f) before training, L_j(f_i) after training on skill i and L_j(f_ij) after i and j together:

        A_ij = max(0, L_j(f) − L_j(f_i))                                  from single skills
        A_ij = max(0, L_j(f_j) − L_j(f_ij)) for i ≠ j,  A_jj as above     from pairs
        both divided by L_j(f) when `relative`

    Args:
        before: L_j(f).
        alone: trained on i → j → L_j(f_i).
        together: i → j → L_j(f_ij), for i ≠ j; empty where only single skills were trained on.
        relative: whether the edges are parts of the loss, as in Eq. 2 of the paper, or nats a token.

    Source: Skill-it (arXiv 2307.14430), Algorithms 2 and 3; A_ij ∝ δ_j^i, or δ_j^ij − δ_j^j from pairs (Appendix B.2).
    Differs: from pairs the diagonal is δ_j^j, where the paper's two synthetic sets have 1 there and 0.5 at every edge.

    >>> graph = LearnedGraph(before={"add": 2.0, "sum": 3.0},
    ...     alone={"add": {"add": 1.0, "sum": 2.5}, "sum": {"add": 2.25, "sum": 1.0}})
    >>> graph.edges
    {'add': {'add': 1.0, 'sum': 0.5}, 'sum': {'add': 0.0, 'sum': 2.0}}
    >>> print(graph)
    trained on    add    sum
    ------------------------
    add         1.000  0.500
    sum             -  2.000
    edges between different skills: 1 of 2
    """

    before: LossOf
    alone: dict[str, LossOf]
    together: dict[str, LossOf] = field(default_factory=dict)
    relative: bool = False

    @property
    def edges(self) -> dict[str, LossOf]:
        """A: skill of the pool → skill of the held-out rows → weight, 0 where there is no edge."""
        return {i: {j: self._weight(i, j) for j in self.before} for i in self.alone}

    def _weight(self, i: str, j: str) -> float:
        if i != j and i in self.together:
            drop = self.alone[j][j] - self.together[i][j]  # δ_j^ij − δ_j^j, Algorithm 2
        else:
            drop = self.before[j] - self.alone[i][j]  # δ_j^i, Algorithm 3
        return max(0.0, drop / self.before[j] if self.relative else drop)

    def __str__(self) -> str:
        """A table with a line for each skill that was trained on."""
        edges = self.edges
        cells = {i: [f"{a:.3f}" if a else "-" for a in taught.values()] for i, taught in edges.items()}
        first = max(len(name) for name in ("trained on", *edges))
        widths = [max([len(j), *(len(row[at]) for row in cells.values())]) for at, j in enumerate(self.before)]
        lines = [
            "  ".join(["trained on".ljust(first), *(j.rjust(w) for j, w in zip(self.before, widths, strict=True))])
        ]
        lines.append("-" * len(lines[0]))
        for i, row in cells.items():
            lines.append("  ".join([i.ljust(first), *(c.rjust(w) for c, w in zip(row, widths, strict=True))]))
        others = [a for i, taught in edges.items() for j, a in taught.items() if i != j]
        lines.append(f"edges between different skills: {sum(a > 0 for a in others)} of {len(others)}")
        return "\n".join(lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write edges and losses as JSON, all or nothing."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json(target, {FORMAT: 1, "graph": self.edges, **asdict(self)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LearnedGraph:
        """Read what `save` wrote.

        Raises:
            ValueError: no such file, or no graph.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{os.fspath(path)} is no skills graph: {error}. hf-dsel dynamics graph makes one"
            ) from None
        if not isinstance(found, Mapping) or found.get(FORMAT) != 1:
            raise ValueError(f"{os.fspath(path)} is no skills graph as hf-dsel dynamics graph writes it")
        return cls(**{f.name: found[f.name] for f in fields(cls)})


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """All of the file or nothing; what is written stays after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
