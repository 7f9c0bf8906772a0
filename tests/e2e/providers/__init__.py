"""Every provider, proven by one runner: a table says what is particular to each."""
