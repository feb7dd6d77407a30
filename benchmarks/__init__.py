"""Side-by-side measurements; each module prints a Markdown table and writes results/NAME.json."""
