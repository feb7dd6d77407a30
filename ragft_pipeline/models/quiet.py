"""What libraries of models say on the side, kept out of run logs."""

from __future__ import annotations

import logging
import os
import warnings


def quiet_transformers() -> None:
    """Keep the libraries' progress bars and advice out of run logs."""
    import torch

    if not torch.accelerator.is_available():  # beside a card one core tokenizes too slowly
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    # what libraries above transformers will have to rename
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
