"""How long a training may be: steps from a budget of minutes, steps and tokens.

The steps are planned once, from the speed of a real one, and written down: a training that goes on
after a kill ends with the same number.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ragft_pipeline.settings import TunedLLMSettings
from ragft_pipeline.store.files import write_json

_SPARE = 0.9  # of the minutes is planned; the clock itself stops a training at all of them
_EVALUATION = 0.4  # of the seconds a token takes in training


@dataclass(frozen=True)
class Plan:
    """Steps to take, and what a token took when they were planned."""

    steps: int
    seconds_a_token: float
    tokens_a_step: float


def plan_training(
    file: Path,
    recipe: TunedLLMSettings,
    train_tokens: list[int],
    val_tokens: list[int],
    seconds_a_token: Callable[[], float],
) -> Plan:
    """Return the plan in `file`, or make one and write it there.

    Args:
        train_tokens, val_tokens: the length of each chat.
        seconds_a_token: measures a training step; called only where minutes are limited.
    """
    try:
        return Plan(**json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        pass
    mean = sum(train_tokens) / len(train_tokens)
    a_step = mean * min(recipe.batch_size, len(train_tokens))
    limits = [max(1, round(recipe.epochs * len(train_tokens) / recipe.batch_size))]
    if recipe.budget.steps:
        limits.append(recipe.budget.steps)
    if recipe.budget.tokens:
        limits.append(int(recipe.budget.tokens // a_step))
    speed = 0.0
    if recipe.budget.minutes:
        speed = seconds_a_token()
        evaluating = recipe.evaluations * sum(val_tokens) * _EVALUATION * speed
        left = 60 * recipe.budget.minutes * _SPARE - evaluating
        limits.append(int(left // (a_step * speed)))
    plan = Plan(max(1, min(limits)), speed, a_step)
    write_json(file, asdict(plan))
    return plan
