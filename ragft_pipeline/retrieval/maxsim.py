"""MaxSim of many pairs at once on a card: token vectors end to end, pairs padded to the longest.

On a CPU one product a passage is faster, because nothing is padded (retrieval.late_interaction).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

_PAIRS = 512  # at once: 200 MB of passages of 256 tokens of width 384
_BELOW = -2.0  # any cosine
BLOCK, BLOCKS = 16, 3  # tokens of a block, and blocks of a stretch


@dataclass(frozen=True)
class TokenRows:
    """Token vectors of texts on a device, end to end.

    Attributes:
        vectors: unit vectors, float32 of shape (tokens, width).
        lengths: how many tokens each text has, int64 of shape (texts,).
    """

    vectors: torch.Tensor
    lengths: np.ndarray

    def places(self, texts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows of some texts' vectors, and where there is one.

        Both are of shape (texts, most tokens) and on the device; a place with none is row 0.
        """
        import torch

        starts = (np.cumsum(self.lengths) - self.lengths)[texts]
        lengths = self.lengths[texts]
        within = np.arange(int(lengths.max(initial=0)))
        there = within < lengths[:, None]
        rows = torch.from_numpy(np.where(there, starts[:, None] + within, 0))
        device = self.vectors.device
        return rows.to(device), torch.from_numpy(there).to(device)


def blended(whole: Any, stretch: Any, share: float) -> Any:
    """Return the score of pairs, from MaxSim over the passage and over its best stretch."""
    return (1 - share) * whole + share * stretch


def best_cosines(
    questions: torch.Tensor, passages: torch.Tensor, there: torch.Tensor
) -> torch.Tensor:
    """Return each question token's best cosine in each block, (pairs, question tokens, blocks).

    Args:
        questions: float (pairs or 1, question tokens, width).
        passages: float (pairs, passage tokens, width).
        there: bool (pairs, passage tokens): where a passage has a token.
    """
    from torch.nn.functional import pad

    cosines = (questions @ passages.transpose(1, 2)).masked_fill(~there[:, None], _BELOW)
    blocks = pad(cosines, (0, -cosines.shape[2] % BLOCK), value=_BELOW)
    return blocks.unflatten(2, (-1, BLOCK)).amax(dim=3)


def pair_scores(
    questions: TokenRows,
    shares: torch.Tensor,
    passages: TokenRows,
    pairs: np.ndarray,
    stretch: float,
) -> np.ndarray:
    """Return the score of each pair, float32 of shape (pairs,).

    Args:
        shares: how much each token of the questions counts, summing to 1 in each, float (tokens,).
        pairs: (question, passage) as positions, int of shape (pairs, 2); all have tokens.
        stretch: how much the best stretch counts beside the whole passage.
    """
    import torch
    from torch.nn.functional import max_pool1d

    found = []
    for start in range(0, len(pairs), _PAIRS):
        part = pairs[start : start + _PAIRS]
        asked, own = questions.places(part[:, 0])
        shown, there = passages.places(part[:, 1])
        best = best_cosines(questions.vectors[asked], passages.vectors[shown], there)
        counts = (shares[asked] * own)[:, :, None]
        near = max_pool1d(best, min(BLOCKS, best.shape[2]), stride=1)
        whole = (best.amax(dim=2, keepdim=True) * counts).sum(dim=1)[:, 0]
        found.append(blended(whole, (near * counts).sum(dim=1).amax(dim=1), stretch))
    return torch.cat(found).cpu().numpy() if found else np.zeros(0, np.float32)
