"""Language models: who is asked, what it costs, and what is kept."""

from dal.llm.clients.anthropic_client import AnthropicClient
from dal.llm.clients.client import Bill, Client, LLMWarning, Price, Reply, Request
from dal.llm.clients.openai_client import OpenAIClient

__all__ = ["AnthropicClient", "Bill", "Client", "LLMWarning", "OpenAIClient", "Price", "Reply", "Request"]
