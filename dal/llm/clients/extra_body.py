"""Validation of `extra_body`: fields that could raise the price of an answer above its bound are rejected."""

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from dal.errors import ConfigError, shortened

_DEEPEST, _LONGEST = 32, 100_000

_TOKENS = "use `max_tokens` of the learner or the Request instead"
_MODEL = "use `model` of the client instead"
_TEXTS = "prompts are built from the data: use `instructions`, `descriptions` or `template` of the learner"
_ONE = "every request gets one answer: use `samples` of the learner"
_WHOLE = "answers are not streamed"
_TOOLS = "tools and searches are billed separately, which a cap cannot take into account"
_TARIFF = "it changes the price per token, which a cap cannot take into account"
_ELSEWHERE = "it makes the server read more than what is sent, which a cap cannot take into account"

#: Reason or alternative -> rejected keys of various servers, in lower case and without spaces and punctuation.
_WORDS = {
    _TOKENS: "maxlen maxnew numpredict npredict",
    _MODEL: "engine deployment deploymentid fallbacks fallback route baseurl apibase endpoint url",
    _TEXTS: """messages prompt prompts input inputs system systeminstruction instructions contents history suffix prefix
        template chattemplate examples rawprompt""",
    _ONE: """n bestof numbeams beamwidth usebeamsearch beamsearch numreturnsequences numcompletions numchoices
        numsamples candidatecount numgenerations numoutputs nsamples nbest batchsize repeat""",
    _WHOLE: "stream streaming streamoptions",
    _TOOLS: """tools tool toolchoice toolconfig functions functioncall functioncalling mcpservers mcp plugins skills
        container websearch websearchoptions searchparameters enablesearch searchoptions grounding filesearch
        codeinterpreter codeexecution computeruse connectors datasources agents""",
    _TARIFF: """servicetier tier speed priority inferencegeo cachecontrol ttl betas anthropicbeta modalities audio voice
        prediction promptcacheretention responsemodalities imageconfig performanceconfig latency""",
    _ELSEWHERE: """previousresponseid conversation conversationid sessionid threadid assistantid fileid fileids files
        file attachments images image imageurl videourl audiourl documents vectorstoreids cachedcontent""",
    "it is not a field of a request body": "extrabody extraheaders extraquery headers query customid requests",
}
_REFUSED: Mapping[str, str] = {word: reason for reason, words in _WORDS.items() for word in words.split()}
_LIMIT = re.compile(
    r"budget|(?:max|limit|num|new)\w*(?:token|length|output|completion|gen)|token\w*(?:max|limit|count)|lengthlimit"
)


def check_extra_body(extra: Any) -> None:
    """Check that `extra_body` is JSON and does not raise the price of an answer above the bound reserved by a cap.

    Raises:
        ConfigError: a key at any depth affects the price, or `extra` is not a mapping or not JSON.
    """
    if not isinstance(extra, Mapping):
        raise ConfigError(f"extra_body must be a mapping such as {{top_p: 0.5}}, got {shortened(repr(extra), 60)}")
    _check(extra, "extra_body", 0)
    if len(json.dumps(extra, ensure_ascii=False)) > _LONGEST:
        raise ConfigError(f"extra_body has more than {_LONGEST:,} characters")


def size_of_extra(extra: Mapping[str, Any] | None) -> int:
    """Return the number of bytes that `extra_body` adds to a request."""
    return len(json.dumps(extra, ensure_ascii=False).encode("utf-8", "replace")) if extra else 0


def _check(value: Any, place: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise ConfigError(f"extra_body is nested deeper than {_DEEPEST} levels")
    if isinstance(value, Mapping):
        if not isinstance(value, dict):
            raise ConfigError(f"{place} is a {type(value).__name__}, not a dict")
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ConfigError(f"{place} has the key {shortened(repr(key), 60)}, which is not text")
            where = f"{place}.{shortened(key, 60)}"
            if reason := _reason(key):
                raise ConfigError(f"{where} is not sent: {reason}")
            _check(inner, where, depth + 1)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _check(inner, f"{place}[{number}]", depth + 1)
    elif not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"{place} is {shortened(repr(value), 60)}, which JSON cannot hold")
    elif isinstance(value, int) and abs(value) >= 1 << 64:
        raise ConfigError(f"{place} is a number of more than 64 bits")


def _reason(key: str) -> str | None:
    """Why a key is rejected, or what to use instead; None if it does not affect the price."""
    word = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", key).casefold())
    if "model" in word:
        return _MODEL
    if _LIMIT.search(word):
        return _TOKENS
    return _REFUSED.get(word)
