"""The one partition dimension: corpus versions, added when they are frozen."""

import dagster as dg

PARTITIONS_NAME = "corpus_version"
corpus_versions = dg.DynamicPartitionsDefinition(name=PARTITIONS_NAME)
