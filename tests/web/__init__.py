"""The web layer, over real sockets."""
