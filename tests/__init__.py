"""Everything is tested with real parts: real servers, real sockets, the real SDKs."""
