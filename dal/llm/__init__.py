"""Language models: who is asked, what it costs, and what is kept."""

from dal.llm.client import Client, Price, Reply, Request

__all__ = ["Client", "Price", "Reply", "Request"]
