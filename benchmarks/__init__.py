"""What the gateway takes in time, memory and processor, measured beside others on the same machine."""
