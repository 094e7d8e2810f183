"""What a word may mean, and which requests, endpoints and accounts it leads to."""

import re

from twinlock_broker.endpoints.registry import Event as Happened
from twinlock_broker.trace.event import Event

_LONGEST_NUMBER = 18
_BEGINNING = re.compile(r"[0-9a-f-]{4,36}")
"""A uuid or its beginning, as long as `twinlock stop` wants it."""
_COMMAND = f"{Happened.COMMAND.value}; "
"""How the broker's line about a start command begins; its id is that of the request that the endpoint began with."""


class Search:
    """The search for all that the word may mean. Each of its meanings is looked for, whatever else it means."""

    def __init__(self, word: str, owner: str = "") -> None:
        """Prepare to look. `owner` is the account whose batch job the word is by the scheduler's word, if it is one."""
        self.word = word
        self._owner = owner
        self.lowered = word.lower()
        self.requests: set[str] = set()
        """Ids of start commands."""
        self.endpoints: set[str] = set()
        """Endpoints of which everything is wanted."""
        self.accounts: set[str] = set()
        """Accounts of which everything is wanted."""
        self.linked: set[str] = set()
        """Endpoints that served these requests."""
        self.meanings: dict[str, None] = {}
        """What the word was found to be, in words, in this order."""
        self._waiting: dict[str, str] = {}  # by endpoint, a wanted request, until it is known which run serves it
        self.number = int(word) if word.isascii() and word.isdigit() and len(word) <= _LONGEST_NUMBER else 0
        """The word as a number, 0 if it is none."""
        self._begins = self.lowered if _BEGINNING.fullmatch(self.lowered) else ""

    def look(self, event: Event) -> None:
        """Look whether the word means something in this event; to be called with all events of a log, in order."""
        if event.user == self.word:
            self.accounts.add(event.user)
            self.linked.add(event.endpoint)
            self._mean_request(f"the account {event.user}", event)
        if event.person and self._names(event.person):
            self._mean(f"the person {event.person}", event)
        if event.identity and event.identity == self.lowered:
            self._mean(f"the identity {event.identity}", event)
        if event.request and event.request == self.lowered:
            self._mean(f"the request (error id) {event.request}", event)
        if self._begins and event.endpoint.startswith(self._begins):
            self.endpoints.add(event.endpoint)
            self._mean_request(f"the user endpoint {event.endpoint}", event)
        if self.number and event.pid == self.number:
            self._mean(f"the process {event.pid} of the endpoint {event.endpoint}", event)
        if self.lowered in event.tasks:
            self._mean(f"a task or function, by the word of the endpoint {event.endpoint}", event)
        if self.word in event.jobs:
            self._look_at_job(event)
        self._follow(event)

    def add_process(self, endpoint: str, request: str) -> None:
        """Want the request's run of an endpoint, to which the process with this number belongs."""
        self.meanings[f"the process {self.word}, which belongs to the user endpoint {endpoint}"] = None
        if request:
            self.requests.add(request)
            self.linked.add(endpoint)
        else:
            self.endpoints.add(endpoint)

    def _look_at_job(self, event: Event) -> None:
        """Believe the endpoint that names the job, unless the scheduler knows better."""
        if self._owner in ("", event.user):
            self._mean(f"the batch job {self.word}, by the word of an endpoint of {event.user}", event)
        else:
            self.meanings[f"no batch job of {event.user}, though an endpoint of {event.user} names it"] = None

    def _names(self, person: str) -> bool:
        """Return whether the word is the person's name, or what it has before the @."""
        return self.lowered in (person.lower(), person.lower().partition("@")[0])

    def _mean(self, meaning: str, event: Event) -> None:
        """Want what belongs to the event's request; where that has no id, everything of its endpoint."""
        self._mean_request(meaning, event)
        if not event.request and event.endpoint and event.endpoint not in self.linked:
            self.endpoints.add(event.endpoint)

    def _mean_request(self, meaning: str, event: Event) -> None:
        self.meanings[meaning] = None
        if event.request:
            self.requests.add(event.request)
            self.linked.add(event.endpoint)
            self._waiting[event.endpoint] = event.request

    def _follow(self, event: Event) -> None:
        """Want the request that an endpoint was started for, where that endpoint serves a request which is wanted."""
        if event.endpoint in self._waiting and event.text.startswith(_COMMAND) and event.request:
            del self._waiting[event.endpoint]
            self.requests.add(event.request)
