"""Qdrant: a collection a generation, and an alias that is live.

The alias `<collection>` is what applications read, `<collection>--previous` what a roll-back goes
to; both move in one request, which Qdrant applies as a whole: that is the switch. Qdrant cannot
show two states of one collection, so a family has two collections that take turns: a new generation
is the difference written into the one that is not live. The first time that one is empty, and
filled.

With all parts a point has `text-dense`, `words` (sparse, with the modifier idf) and `tokens` (a
multivector, compared by MaxSim), so the hybrid and a second stage run inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ragft_pipeline.errors import RagftError, TransientError, one_line
from ragft_pipeline.publishing.locks import only_writer
from ragft_pipeline.publishing.manifest import DENSE, TOKENS, WORDS, Manifest, State
from ragft_pipeline.publishing.points import Point
from ragft_pipeline.publishing.qdrant_filters import qdrant_filter
from ragft_pipeline.publishing.qdrant_points import (
    DENSE_NAME,
    DIGEST,
    floats,
    found_in,
    fusion,
    payload_of,
    vectors_config,
    vectors_of,
    words_asked,
)
from ragft_pipeline.publishing.target import Found, Origin, Target
from ragft_pipeline.retrieval.metadata_fields import KNOWN, NUMBER

if TYPE_CHECKING:
    from llama_index.core.vector_stores.types import MetadataFilters

_MANIFEST, _WHOLE = "ragft", "ragft_whole"
_PAGE = 2_000
_FIRST_STAGE = 1_000  # points that a part hands to the fusion


class QdrantTarget(Target):
    """A collection in Qdrant: a server's, or a folder in this process (local mode).

    Args:
        where: the server's URL, or a folder; one process at a time may open a folder.
        collection: the alias that applications read.
        locks: where the lock of the one writer lies.
        key: of the server; "" for none.

    Raises RagftError where qdrant-client is not installed or the folder is in use.
    """

    holds: tuple[str, ...] = (DENSE, WORDS, TOKENS)

    def __init__(self, where: str, collection: str, locks: Path, key: str = "") -> None:
        try:
            from qdrant_client import QdrantClient, models
        except ImportError:
            raise RagftError(
                "targets of kind qdrant: pip install 'ragft-pipeline[qdrant]' first"
            ) from None
        self.collection = collection
        self._alias_of = {"live": collection, "previous": f"{collection}--previous"}
        self._where, self._locks, self._key = where, locks, key
        self._models = models
        self._remote = where.startswith(("http://", "https://"))
        with self._asked():
            if self._remote:
                self.client = QdrantClient(url=where, api_key=key or None, timeout=60)
            else:
                self.client = QdrantClient(path=where, force_disable_check_same_thread=True)

    def writer(self) -> AbstractContextManager[None]:
        """Be the only writer among those who share the folder of the locks."""
        return only_writer(self._locks, f"qdrant {self._where} {self.collection}")

    def state(self) -> State:
        """Return what the aliases point to, and what was begun."""
        with self._asked():
            aliases = self._aliases()
            names = [name for name in self._collections() if name not in aliases.values()]
            made = {role: self._read(name)[0] for role, name in aliases.items()}
            begun = [found for found, whole in map(self._read, names) if found and not whole]
        building = max(begun, key=lambda each: each.number, default=None)
        return State(made.get("live"), made.get("previous"), building)

    def origin(self, manifest: Manifest, state: State) -> Origin:
        """A generation goes on from what was begun, else from the family's other collection."""
        for base in (state.building, state.previous):
            if base is not None and base.family == manifest.family:
                return Origin(base)
        if state.live is not None and state.live.family == manifest.family:
            return Origin(state.live, copied=True)
        return Origin()

    def begin(self, manifest: Manifest, state: State) -> Manifest:
        """Take the collection that is not live, or make one; it is not whole from here on."""
        base = self.origin(manifest, state)
        taken = state.live.place if state.live else ""
        place = base.manifest.place if base.manifest and not base.copied else ""
        if not place:
            name = f"{self.collection}--{manifest.family[:12]}"
            place = next(f"{name}-{end}" for end in "ab" if f"{name}-{end}" != taken)
        made = manifest.at(place)
        with self._asked():
            if state.previous is not None and state.previous.place == place:
                self._move({"previous": None})
            if not self.client.collection_exists(place):
                self.client.create_collection(place, **vectors_config(made))
            if self._remote:
                for name, kind in {**KNOWN, **made.fields}.items():
                    kinds = self._models.PayloadSchemaType
                    index = kinds.FLOAT if kind.endswith(NUMBER) else kinds.KEYWORD
                    self.client.create_payload_index(place, name, index)
            self._say(made, whole=False)
        return made

    def stored(self, manifest: Manifest) -> dict[str, str]:
        """Return the digests that lie beside the points."""
        found: dict[str, str] = {}
        offset: Any = None
        with self._asked():
            while True:
                rows, offset = self.client.scroll(
                    manifest.place, limit=_PAGE, offset=offset, with_payload=[DIGEST]
                )
                found |= {str(row.id): str((row.payload or {}).get(DIGEST)) for row in rows}
                if offset is None:
                    return found

    def write(self, manifest: Manifest, points: Sequence[Point]) -> None:
        """Write points over those of the same ids."""
        rows = [
            self._models.PointStruct(
                id=point.id, vector=vectors_of(point), payload=payload_of(point)
            )
            for point in points
        ]
        with self._asked():
            self.client.upsert(manifest.place, rows, wait=True)

    def update(self, manifest: Manifest, points: Sequence[Point]) -> None:
        """Write payloads over those of the same ids."""
        models = self._models
        todo = [
            models.OverwritePayloadOperation(
                overwrite_payload=models.SetPayload(payload=payload_of(point), points=[point.id])
            )
            for point in points
        ]
        with self._asked():
            self.client.batch_update_points(manifest.place, todo, wait=True)

    def delete(self, manifest: Manifest, ids: Sequence[str]) -> None:
        """Delete points."""
        with self._asked():
            selected = self._models.PointIdsList(points=list(ids))
            self.client.delete(manifest.place, selected, wait=True)

    def finish(self, manifest: Manifest) -> Manifest:
        """Write the manifest into the collection."""
        with self._asked():
            self._say(manifest, whole=True)
            found, whole = self._read(manifest.place)
        if found is None or not whole:
            raise RagftError(
                f"Qdrant {self._where}: it keeps no metadata of collections; "
                "a server of version 1.16 or newer is needed"
            )
        return manifest

    def switch(self, to: Manifest, previous: Manifest | None) -> None:
        """Move both aliases in one request."""
        with self._asked():
            self._say(to, whole=True)
            self._move({"live": to.place, "previous": previous.place if previous else None})

    def prune(self) -> int:
        """Delete collections that are neither live, previous nor begun."""
        kept = {made.place for made in self.state().generations}
        removed = 0
        with self._asked():
            for name in self._collections():
                if name not in kept:
                    removed += self.client.count(name).count
                    self.client.delete_collection(name)
        return removed

    def search(
        self,
        manifest: Manifest,
        vector: np.ndarray,
        top: int,
        filters: MetadataFilters | None = None,
    ) -> list[Found]:
        """Search a generation's dense vectors."""
        return self._nearest(manifest, floats(vector), DENSE_NAME, top, filters)

    def search_words(
        self, manifest: Manifest, question: str, top: int, filters: MetadataFilters | None = None
    ) -> list[Found]:
        """Search by BM25, with our terms and saturation and the server's inverse frequency."""
        asked = words_asked(manifest, question)
        return [] if asked is None else self._nearest(manifest, asked, WORDS, top, filters)

    def _nearest(
        self, manifest: Manifest, asked: Any, part: str, top: int, filters: MetadataFilters | None
    ) -> list[Found]:
        chosen = qdrant_filter(filters, manifest.fields)
        with self._asked():
            return found_in(
                self.client.query_points(
                    manifest.place, query=asked, using=part, limit=top, query_filter=chosen
                )
            )

    def search_hybrid(
        self,
        manifest: Manifest,
        question: str,
        vector: np.ndarray,
        top: int,
        filters: MetadataFilters | None = None,
        tokens: np.ndarray | None = None,
        depth: int = 100,
    ) -> list[Found]:
        """Search by the bundle's fusion: both scores scaled to 0..1, weighed as the bundle weighs.

        The scales are those of all points: the best and the worst dense score are asked first.

        Args:
            tokens: a question's token vectors, each times its share, float (tokens, width): the
                best `depth` are ordered anew by late interaction.
        """
        models = self._models
        words = words_asked(manifest, question)
        weight = manifest.dense_weight
        chosen = qdrant_filter(filters, manifest.fields)
        if weight is None or words is None:
            return self.search(manifest, vector, top, filters)
        near = {"using": DENSE_NAME, "filter": chosen, "limit": 1}
        with self._asked():
            best, worst, said = (
                answer.points
                for answer in self.client.query_batch_points(
                    manifest.place,
                    [
                        models.QueryRequest(query=floats(vector), **near),
                        models.QueryRequest(query=floats(-vector), **near),
                        models.QueryRequest(query=words, using=WORDS, filter=chosen, limit=1),
                    ],
                )
            )
            if not best:
                return []
            low, high = -worst[0].score, best[0].score
            most = said[0].score if said else 0.0
            fused = fusion(weight, low, high, most)
            first = {"filter": chosen, "limit": min(_FIRST_STAGE, max(1, manifest.points))}
            parts = [
                models.Prefetch(query=floats(vector), using=DENSE_NAME, **first),
                models.Prefetch(query=words, using=WORDS, **first),
            ]
            if tokens is None or TOKENS not in manifest.parts:
                answer = self.client.query_points(
                    manifest.place, prefetch=parts, query=fused, limit=top
                )
            else:
                answer = self.client.query_points(
                    manifest.place,
                    prefetch=models.Prefetch(prefetch=parts, query=fused, limit=depth),
                    query=tokens.tolist(),
                    using=TOKENS,
                    limit=top,
                )
        return found_in(answer)

    def close(self) -> None:
        """Give back the folder, or the connection."""
        self.client.close()

    def _aliases(self) -> dict[str, str]:
        """Return the collections that are live and previous, as far as there are any."""
        aliases = self.client.get_aliases().aliases
        places = {each.alias_name: each.collection_name for each in aliases}
        return {role: places[name] for role, name in self._alias_of.items() if name in places}

    def _move(self, roles: dict[str, str | None]) -> None:
        models = self._models
        known = self._aliases()
        todo: list[Any] = []
        for role, place in roles.items():
            # local mode applies one operation after the other: there an alias is just set anew
            if role in known and (self._remote or place is None):
                gone = models.DeleteAlias(alias_name=self._alias_of[role])
                todo.append(models.DeleteAliasOperation(delete_alias=gone))
            if place is not None:
                new = models.CreateAlias(collection_name=place, alias_name=self._alias_of[role])
                todo.append(models.CreateAliasOperation(create_alias=new))
        if todo:
            self.client.update_collection_aliases(change_aliases_operations=todo)

    def _collections(self) -> list[str]:
        found = [each.name for each in self.client.get_collections().collections]
        return sorted(name for name in found if name.startswith(f"{self.collection}--"))

    def _say(self, manifest: Manifest, whole: bool) -> None:
        said = {_MANIFEST: manifest.to_json(), _WHOLE: whole}
        self.client.update_collection(manifest.place, metadata=said)

    def _read(self, place: str) -> tuple[Manifest | None, bool]:
        said = self.client.get_collection(place).config.metadata or {}
        if _MANIFEST not in said:
            return None, False
        made = Manifest.parse(said[_MANIFEST], f"collection {place!r}")
        return made, bool(said.get(_WHOLE))

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Turn what the client raises into one line."""
        try:
            yield
        except RagftError:
            raise
        except Exception as error:
            kind = TransientError if self._remote else RagftError
            line = one_line(error, self._where, [self._key])
            raise kind(f"Qdrant {self._where}: {line}") from None
