"""Pools in an evaluation's artifact, for a later version's to follow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ragft_pipeline.evaluation.pools import (
    TITLE,
    Edge,
    Extremes,
    Pool,
    Shape,
    Statistics,
    Tally,
)
from ragft_pipeline.retrieval.wording import Profiles, Wording
from ragft_pipeline.store.tables import encodings

Columns = dict[str, Any]


@dataclass(frozen=True)
class PoolSet:
    """The pools of some questions, by their ids, over one state of all nodes."""

    shape: Shape
    tally: Tally
    pools: dict[str, Pool]

    def save(self, folder: Path, title: str, ids: pa.StringArray) -> None:
        """Write the pools into an artifact.

        Args:
            ids: of all nodes, ascending.
        """
        said = {"shape": asdict(self.shape), "tally": vars(self.tally)}
        text = json.dumps(said)  # in their order, as cosines have it
        (folder / f"{title}.json").write_text(text, encoding="utf-8")
        rows = [_row(key, pool, self.shape) for key, pool in self.pools.items()]
        names = sorted({name for row in rows for name in row})
        arrays = {name: _column([row.get(name) for row in rows]) for name in names}
        places = arrays["nodes"]
        used, which = np.unique(places.flatten().to_numpy(), return_inverse=True)
        named = pa.DictionaryArray.from_arrays(
            pa.array(which.reshape(-1), pa.int32()), ids.take(pa.array(used))
        )
        arrays["nodes"] = pa.ListArray.from_arrays(places.offsets, named)
        for name in names:
            if name.endswith("_last"):
                lasts = arrays[name].to_pylist()
                arrays[name] = pa.array(
                    [ids[at].as_py() if at is not None and at >= 0 else "" for at in lasts]
                )
        table = pa.table(arrays)
        path = folder / f"{title}.parquet"
        pq.write_table(table, path, compression="zstd", **encodings(table.schema))

    @classmethod
    def load(
        cls, folder: Path, title: str, ids: pa.StringArray, gone: Sequence[str]
    ) -> PoolSet | None:
        """Read pools, without the nodes that left; None where there are none.

        Args:
            ids: of all nodes that there are now, ascending.
        """
        if not (folder / f"{title}.json").is_file():
            return None
        said = json.loads((folder / f"{title}.json").read_text(encoding="utf-8"))
        shape = Shape(**{**said["shape"], "grid": tuple(said["shape"]["grid"])})
        tally = said["tally"]
        tally = Tally(
            tally["nodes"],
            tally["lengths"],
            tally["having"],
            {kind: Counter(own) for kind, own in tally["languages"].items()},
            Counter({int(length): number for length, number in tally["characters"].items()}),
        )
        table = pq.read_table(folder / f"{title}.parquet", read_dictionary=["nodes.list.element"])
        columns = {name: table.column(name).combine_chunks() for name in table.column_names}
        flat = columns["nodes"].flatten()
        flat = flat if pa.types.is_dictionary(flat.type) else flat.dictionary_encode()
        places = _places(ids, flat.dictionary, gone)
        columns["nodes"] = pa.ListArray.from_arrays(
            columns["nodes"].offsets, pa.array(places[flat.indices.to_numpy()])
        )
        rows = _rows(columns)
        return cls(
            shape,
            tally,
            {row["question_id"]: _pool(row, shape, tally, ids) for row in rows},
        )


def _places(ids: pa.StringArray, names: pa.StringArray, gone: Sequence[str]) -> np.ndarray:
    """Return where nodes are, -1 for those that left."""
    import pyarrow.compute as pc

    left = pc.is_in(names, pa.array(gone, pa.string()))
    places = pc.if_else(left, None, pc.index_in(names, ids))
    return np.asarray(pc.fill_null(places, -1)).astype(np.int64)


def _row(key: str, pool: Pool, shape: Shape) -> Columns:
    """Return a pool as the columns of a table."""
    found: Columns = {
        "question_id": key,
        "question": pool.question,
        **{f"query_{name}": own for name, own in pool.queries.items()},
        "nodes": pool.nodes,
        "cosines": pool.cosines.reshape(-1),
        "characters": pool.characters,
        **{f"judged_{name}": own for name, own in pool.judged.items()},
    }
    for kind, own in pool.profiles.items():
        found |= _of_profiles(kind, own)
    edge = pool.edge
    found["whole"] = edge is None
    if edge is None:
        return found
    for kind, then in edge.statistics.items():
        found[f"{kind}_having"] = np.append([then.nodes, then.length], then.having)
        found[f"{kind}_without"] = edge.without[kind]
    for kind in edge.last:
        found[f"{kind}_least"], found[f"{kind}_most"] = edge.words[kind]
        found[f"{kind}_others"] = edge.others[kind]
        found[f"{kind}_last"], last = edge.last[kind]
        found |= _of_profiles(f"{kind}_like", last)
    for kind, extremes in edge.lowest.items():
        found |= _of_extremes(f"{kind}_lowest", extremes)
    found |= _of_extremes("best_title", edge.titles)
    return found | {
        "ends": edge.cosines.reshape(-1),
        "ceilings": edge.ceilings,
        "floors": edge.floors.reshape(-1),
    }


def _of_extremes(name: str, own: Extremes) -> Columns:
    counted = {f"{name}_nodes": own.nodes, f"{name}_bound": own.bound}
    return _of_profiles(name, own.profiles) | counted


def _of_profiles(name: str, own: Profiles) -> Columns:
    return {
        f"{name}_lengths": own.lengths,
        f"{name}_counts": own.counts.reshape(-1),
        f"{name}_pairs": own.pairs.reshape(-1),
    }


def _column(values: Sequence[Any]) -> pa.Array:
    """Return values of rows, arrays among them as lists."""
    some = next(value for value in values if value is not None)
    if not isinstance(some, np.ndarray):
        return pa.array(values)
    lengths = [0 if value is None else len(value) for value in values]
    ends = np.append(0, np.cumsum(lengths)).astype(np.int32)
    flat = np.concatenate([value for value in values if value is not None])
    return pa.ListArray.from_arrays(
        ends, pa.array(flat), mask=pa.array([value is None for value in values])
    )


def _rows(columns: Mapping[str, pa.Array]) -> list[Columns]:
    """Return the columns of a table row by row, lists as arrays."""
    number = len(next(iter(columns.values())))
    found: list[Columns] = [{} for _ in range(number)]
    for name, column in columns.items():
        if not pa.types.is_list(column.type):
            values = column.to_pylist()
        else:
            flat, ends = np.asarray(column.values), np.asarray(column.offsets)
            there = np.asarray(column.is_valid())
            values = [
                flat[start:end] if held else None
                for start, end, held in zip(ends[:-1].tolist(), ends[1:].tolist(), there.tolist())
            ]
        for row, value in zip(found, values):
            row[name] = value
    return found


def _pool(row: Columns, shape: Shape, tally: Tally, ids: pa.StringArray) -> Pool:
    asked = {kind: tally.wording(kind, row["question"]) for kind in shape.texts}
    members, retrievers = len(row["nodes"]), len(shape.kinds)

    def profiles(name: str, kind: str) -> Profiles:
        lengths = row[f"{name}_lengths"]
        own = asked[kind]
        return Profiles(
            lengths,
            row[f"{name}_counts"].reshape(len(lengths), len(own.terms)),
            row[f"{name}_pairs"].reshape(len(lengths), len(own.forms)),
        )

    edge = None if row["whole"] else _edge(row, shape, asked, profiles, ids)
    whole = Pool(
        row["question"],
        {name: row[f"query_{name}"] for name in shape.kinds},
        row["nodes"],
        row["cosines"].reshape(retrievers, members),
        {kind: profiles(kind, kind) for kind in shape.texts},
        row["characters"],
        edge,
        {
            name.removeprefix("judged_"): own.copy()
            for name, own in row.items()
            if name.startswith("judged_") and own is not None
        },
    )
    return whole.at(np.flatnonzero(whole.nodes >= 0))


def _edge(
    row: Columns,
    shape: Shape,
    asked: Mapping[str, Wording],
    profiles: Callable[[str, str], Profiles],
    ids: pa.StringArray,
) -> Edge:
    def extremes(name: str, kind: str) -> Extremes:
        return Extremes(profiles(name, kind), row[f"{name}_nodes"], row[f"{name}_bound"])

    counted = {kind: row[f"{kind}_having"] for kind in shape.texts}
    kinds = [kind for kind in shape.texts if kind != TITLE]
    return Edge(
        {kind: Statistics(int(n[0]), int(n[1]), n[2:]) for kind, n in counted.items()},
        row["ends"].reshape(len(shape.kinds), 2),
        row["ceilings"],
        {kind: (row[f"{kind}_least"], row[f"{kind}_most"]) for kind in kinds},
        row["floors"].reshape(len(shape.kinds), -1),
        {kind: row[f"{kind}_others"] for kind in kinds},
        {kind: (_last(ids, row[f"{kind}_last"]), profiles(f"{kind}_like", kind)) for kind in kinds},
        {kind: row[f"{kind}_without"] for kind in shape.texts},
        {
            kind: extremes(f"{kind}_lowest", kind)
            for kind in shape.texts
            if row.get(f"{kind}_lowest_nodes") is not None
        },
        extremes("best_title", TITLE),
    )


def _last(ids: pa.StringArray, name: str) -> int:
    """Return the place of the last node that comes no later than one, -1 where there is none."""
    low, high = 0, len(ids)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if ids[middle].as_py() <= name else (low, middle)
    return low - 1
