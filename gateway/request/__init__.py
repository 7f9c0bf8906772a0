"""A request from its admission to its last byte: waiting, attempts, delivery, and those that repeat another."""
