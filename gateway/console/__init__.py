"""The console: the web page on the admin plane, its session, and the figures behind it."""
