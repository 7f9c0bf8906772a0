"""HTTP in and out; the only importer of starlette and multipart."""
