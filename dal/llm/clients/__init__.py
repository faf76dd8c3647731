"""Clients of hosted language models: requests, batches, prices, and the replies that were paid for."""
