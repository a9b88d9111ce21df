"""Messages and status codes that server and clients share."""
