"""The whole gateway as a process, with a real store, a sandbox for providers, and the clients that people use."""
