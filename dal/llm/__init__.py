"""Language models as annotators: clients, prompts, confidence, and costs."""

from dal.llm.clients.anthropic_client import AnthropicClient
from dal.llm.clients.client import Bill, Client, LLMWarning, PriceBound, Reply, Request
from dal.llm.clients.openai_client import OpenAIClient

__all__ = ["AnthropicClient", "Bill", "Client", "LLMWarning", "OpenAIClient", "PriceBound", "Reply", "Request"]
