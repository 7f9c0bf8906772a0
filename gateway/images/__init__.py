"""Images that are kept: linked, sent in ranges, counted against a project's room, and answers made of them again."""
