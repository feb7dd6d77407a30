"""The subcommands of `ragft`, by subject: each reads its options and calls one room."""
