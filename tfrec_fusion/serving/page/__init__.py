"""The page on which users try a served model: static files in `static/`, and the HTTP server that serves
them."""
