"""The far ends that tests talk to. Our own functions are never faked."""
