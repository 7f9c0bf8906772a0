"""Which route a request takes, why not the others, and how routes are doing."""
