"""What the admin plane shows and does: views of a running gateway, dry runs, call backs that were given up."""
