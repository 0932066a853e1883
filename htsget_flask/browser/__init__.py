"""The page: the datasets, and igv.js on one of them."""
