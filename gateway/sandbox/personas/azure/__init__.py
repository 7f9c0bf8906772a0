"""Azure: deployments of the images API, with a key header, filters and errors of its own."""
