"""What to judge next: the questions whose answers decide most, spread over the documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

_DEPTH = 10
_VOTED = 0.5  # what a vote on a question's passages is worth beside a disagreement from 0 to 1


@dataclass(frozen=True)
class Waiting:
    """A question that may be judged.

    Attributes:
        disagreement: of the two systems that are compared, from 0 to 1.
        document: what its first passages are of.
        voted: whether somebody voted on its passages.
    """

    disagreement: float
    document: str
    voted: bool = False


def disagreement(one: Sequence[str], other: Sequence[str]) -> float:
    """Return how far two rankings are apart, from 0 (the same first ten) to 1 (none in common).

    The greatest difference in DCG that any judgements could make, against the DCG of all ten: where
    it is 0, whatever answers, the two systems score the same, and judging decides nothing.
    """
    discounts = 1 / np.log2(np.arange(2, _DEPTH + 2))
    gains: Counter[str] = Counter()
    for nodes, sign in ((one, 1.0), (other, -1.0)):
        for place, node in enumerate(nodes[:_DEPTH]):
            gains[node] += sign * discounts[place]
    apart = sum(abs(gain) for gain in gains.values())
    return float(apart / (2 * discounts[: max(1, len(one[:_DEPTH]))].sum()))


def next_question(waiting: Mapping[str, Waiting], judged_about: Mapping[str, int]) -> str | None:
    """Return the question to judge next; None where none waits.

    Disagreement and votes count less the more was judged about the same document already, because
    questions about one document are not independent.

    Args:
        waiting: by question id.
        judged_about: how many judged questions there are, by document.
    """

    def worth(name: str) -> float:
        one = waiting[name]
        wanted = one.disagreement + (_VOTED if one.voted else 0.0)
        return wanted / (1 + judged_about.get(one.document, 0))

    return min(waiting, key=lambda name: (-worth(name), name), default=None)
