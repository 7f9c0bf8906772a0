"""HTTP/1.1 as a client: to providers and to strangers' URLs, telling of every failure whether anything was sent."""
