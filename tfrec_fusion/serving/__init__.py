"""A server that speaks the protocol of TF Serving, clients for it, and the launcher that chooses a server."""
