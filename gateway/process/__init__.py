"""What one process is made of: the parts joined, sockets and signals, workers, a policy read again."""
