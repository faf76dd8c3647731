"""Clients of hosted language models: requests, batches, prices, and the reply cache."""
