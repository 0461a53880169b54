# Copyright 2026 The hf_dsel authors. Apache-2.0.
"""`python -m hf_dsel`, and `accelerate launch -m hf_dsel sft --config x.yaml`."""

from hf_dsel.cli import main

raise SystemExit(main())
