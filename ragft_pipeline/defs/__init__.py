"""The one room that knows Dagster: assets, partitions, checks, jobs, automation."""

import warnings

import dagster as dg

# Conditions evaluated in the user's code are in beta; Dagster is pinned.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
