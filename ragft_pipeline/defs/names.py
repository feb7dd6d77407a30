"""What a corpus's assets, versions and groups are called in Dagster."""

from __future__ import annotations

import dagster as dg

from ragft_pipeline.instance import BoundCorpus


def asset_key(corpus: BoundCorpus, asset: str) -> dg.AssetKey:
    """Return the key of one of its assets."""
    return dg.AssetKey([*corpus.key_prefix, asset])


def asset_name(key: dg.AssetKey) -> str:
    """Return which asset of some corpus a key is."""
    return key.path[-1]


def asset_of_step(step_key: str) -> str:
    """Return which asset a step makes: Dagster joins the parts of a key by two underscores."""
    return step_key.rpartition("__")[2]


def group_name(corpus: BoundCorpus, group: str) -> str:
    """Return the name of a group: several corpora of one deployment do not mix in one."""
    return corpus.named(group) if corpus.key_prefix else group


def partitions_name(corpus: BoundCorpus) -> str:
    """Return the name of its set of versions; Dagster shares sets between code locations by it."""
    return corpus.named("version")


def partitions_of(corpus: BoundCorpus) -> dg.DynamicPartitionsDefinition:
    """Return its one partition dimension: versions, added when they are frozen."""
    return dg.DynamicPartitionsDefinition(name=partitions_name(corpus))
