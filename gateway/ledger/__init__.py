"""The ledger in Redis: holds, spend, the entry stream and the keys; and the embedded server for those without one."""
