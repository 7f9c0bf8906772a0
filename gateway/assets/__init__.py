"""What the gateway keeps on disk for its clients."""
