"""The simulated providers, over real sockets and with the real SDK."""
