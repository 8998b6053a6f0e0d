"""Weight updates that are sparse in a fixed basis: what LoCA and the fast FourierFT share."""
