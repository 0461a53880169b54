# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""Packages that come with an extra of hf_dsel: the few calls that need one ask for it here first."""

from __future__ import annotations

import importlib


class MissingExtra(ModuleNotFoundError):
    """A package that `pip install hf-dsel` does not bring is needed and not there; the text has the line that does."""


def need(package: str, what: str, *, extra: str, then: str = "") -> None:
    """Raise unless a package is installed.

    One that is installed and cannot be imported raises its own error, whole: to install it again would not help.

    Args:
        package: its name in an import.
        what: what needs it, as the subject of a sentence.
        extra: the extra of hf_dsel that brings it.
        then: what else to do, for the end of the sentence.

    Raises:
        MissingExtra: it is not installed.

    >>> need("numpy", "this line", extra="none")
    >>> need("no_such_package", "the picture", extra="reporting")
    Traceback (most recent call last):
    hf_dsel.extras.MissingExtra: the picture needs no_such_package: pip install 'hf-dsel[reporting]'
    """
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:  # a package that this one needs
            raise
        raise MissingExtra(f"{what} needs {package}: pip install 'hf-dsel[{extra}]'{then}", name=package) from None
