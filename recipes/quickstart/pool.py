"""A real instruction pool that every machine has: the documentation of its installed Python packages.

Every documented function and class gives up to three rows: what it does, which parameters it takes, an example. The
text is read from the source files; nothing is imported. It is a pool as pools are: boilerplate repeated word
for word in many modules, answers of one word, and good answers between them.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset

PACKAGES = (
    "python", "numpy", "pandas", "torch", "transformers", "trl", "datasets", "accelerate", "huggingface_hub", "sympy",
    "networkx", "pyarrow", "fsspec", "multiprocess", "dill", "jinja2", "packaging", "yaml", "filelock", "pip",
)  # fmt: skip
MOST_CHARACTERS = 700  # of an answer; a longer one ends at the last whole line
QUESTIONS = {
    "what": "What does `{name}` in {package} do?",
    "Parameters": "Which parameters does `{name}` in {package} take?",
    "Examples": "Show an example of `{name}` in {package}.",
}
SECTION = re.compile(
    r"^(?:(\w+)\n-{3,}|(Args|Arguments|Returns|Raises|Examples?|Yields|Note|Notes):)[ \t]*$", re.MULTILINE
)


def documentation(rows: int, *, packages: tuple[str, ...] = PACKAGES, seed: int = 0) -> Dataset:
    """At most `rows` questions and answers in random order, at most a sixth of them from one package.

    Columns: `instruction`, `output`, `package`.
    """
    order = random.Random(seed)
    found = []
    for package in packages:
        of_package: list[dict[str, str]] = []
        files = sources(package)
        order.shuffle(files)
        for file in files:
            if len(of_package) >= rows // 6:
                break
            of_package += questions(file, package)
        found += of_package[: rows // 6 + 1]
    order.shuffle(found)
    return Dataset.from_list(found[:rows])


def sources(package: str) -> list[Path]:
    """The Python files of a package, or of the standard library."""
    if package == "python":
        root = Path(sysconfig.get_path("stdlib"))
        skip = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}
    else:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            return []
        root, skip = Path(spec.submodule_search_locations[0]), {"test", "tests"}
    return sorted(f for f in root.rglob("*.py") if not skip & set(f.relative_to(root).parts))


def questions(file: Path, package: str) -> Iterator[dict[str, str]]:
    """The rows of one file."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    for name, node in documented(tree):
        text = ast.get_docstring(node, clean=False)
        for kind, answer in parts(inspect.cleandoc(text or "")).items():
            question = QUESTIONS[kind].format(name=name, package=package)
            yield {"instruction": question, "output": shortened(answer), "package": package}


def documented(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Functions, classes and methods with a docstring, with their dotted names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if ast.get_docstring(node, clean=False):
                yield inside + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from documented(node, f"{inside}{node.name}.")


def parts(docstring: str) -> dict[str, str]:
    """What the docstring says first, and its sections on parameters and examples (numpy's or Google's style)."""
    pieces = SECTION.split(docstring)  # text, then two names (one of them None) and the text behind, again and again
    found = {"what": pieces[0].strip()}
    for numpy_name, google_name, text in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        kind = {"Args": "Parameters", "Arguments": "Parameters", "Example": "Examples"}.get(
            google_name or "", google_name or numpy_name
        )
        if kind in QUESTIONS:
            found[kind] = inspect.cleandoc("\n" + text).strip()
    return {kind: text for kind, text in found.items() if text}


def shortened(text: str) -> str:
    """The text up to the last line that fits, or the first characters of one long line."""
    if len(text) <= MOST_CHARACTERS:
        return text
    return text[:MOST_CHARACTERS].rpartition("\n")[0].rstrip() or text[:MOST_CHARACTERS]
