"""What `tfrec_fusion.Recommender` is made of: given tables, fitted models, requests, figures, storage."""
