"""What is posted to clients when a task ends, and the URLs at which providers say that work is done."""
