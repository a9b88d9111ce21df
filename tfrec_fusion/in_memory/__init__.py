"""Parts of `tfrec_fusion.Recommender`: given tables, fitted models, requests, figures, storage."""
