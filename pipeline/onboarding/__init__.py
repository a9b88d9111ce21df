"""First steps with new tables: init, validate, demo and doctor."""
