"""Books read afterwards: reports, requests on record, replays of them, and comparison with a provider's bill."""
