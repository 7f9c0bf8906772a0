"""Policy files, right and wrong."""
