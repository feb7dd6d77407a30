"""The one room that knows Dagster: assets, partitions, checks, jobs."""
