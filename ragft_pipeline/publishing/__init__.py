"""Publishing: the champion's passages in the database that a team's applications search."""
