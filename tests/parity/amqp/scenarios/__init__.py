"""One module for each part of what a client can observe."""
