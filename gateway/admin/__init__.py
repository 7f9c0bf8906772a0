"""What the admin plane shows and does: views of a running gateway, dry runs, callbacks that were given up."""
