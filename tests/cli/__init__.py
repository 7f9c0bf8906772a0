"""The command line: progress, stopping, exit statuses, JSON, completion, keys in bulk."""
