"""Weigh a state's hashed features, and pack those of several states for a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from imitrace_trainer.encoding import FloatArray, IntArray, Vocabulary


@dataclass(frozen=True)
class Bags:
    """A state's features as the networks take them."""

    rows: IntArray
    weights: FloatArray
    lengths: list[int]
    """Rows of each group."""
    unknown: float
    """Share of features never seen in training."""


def make_bags(
    features: Mapping[str, Sequence[int] | npt.NDArray[np.int32]], vocabulary: Vocabulary, groups: Sequence[str]
) -> Bags:
    """Weigh a state's hashed features: (1 + log count) * idf, normalised by group (TF-IDF, Salton & Buckley 1988).

    Args:
        features: by group.
        vocabulary: those that have a row.
        groups: which of them are weighed; features of others only count as known or unknown.
    """
    parts = [features[name] for name in (*groups, *(name for name in features if name not in groups))]
    sizes = np.array([len(part) for part in parts])
    rows, known = vocabulary.find(np.fromiter(chain.from_iterable(parts), dtype=np.int64, count=sizes.sum()))
    of_group = np.repeat(np.arange(len(sizes)), sizes)[known]
    weighed = of_group < len(groups)
    rows, of_group = rows[weighed], of_group[weighed]
    codes, counts = np.unique(of_group << 32 | rows, return_counts=True)
    of_group, rows = codes >> 32, codes & 0xFFFFFFFF
    weights = (1 + np.log(counts)) * vocabulary.idf[rows]
    norms = np.sqrt(np.bincount(of_group, weights**2, len(groups)))
    lengths: list[int] = np.bincount(of_group, minlength=len(groups)).tolist()
    unknown = 1 - float(known.mean()) if len(known) else 0.0
    return Bags(rows, (weights / norms[of_group]).astype(np.float32), lengths, unknown)


def pack(bags: Sequence[Bags]) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, weights and offsets of several states for ``ChoiceNetwork``."""
    offsets = np.cumsum([0, *(length for bag in bags for length in bag.lengths)])[:-1]
    rows = np.concatenate([bag.rows for bag in bags])
    weights = np.concatenate([bag.weights for bag in bags])
    return torch.from_numpy(rows), torch.from_numpy(weights), torch.from_numpy(offsets)
