"""What there is to say above and below the table, in lines of text."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from twinlock_broker.top.figures import of_row, total
from twinlock_broker.top.picture import Picture
from twinlock_broker.top.units import duration, number

_MOST_ORDERS = 3
"""Lines about blocked accounts, and a drain, that are above the table of `top`."""

Answer = Mapping[str, Any]
"""The broker's answer to `status`."""


def above(picture: Picture, now: float) -> list[str]:
    """Return all that stands above the table of `top`. `now` is of time.monotonic()."""
    answer = picture.answer
    orders = admission(answer)
    more = len(orders) - _MOST_ORDERS
    shown = orders[:_MOST_ORDERS] + ([f"and {more} more blocked accounts, see `twinlock status`"] if more > 0 else [])
    return [*_stale(picture, now), *head(answer), *shown, summary(answer)]


def head(answer: Answer) -> list[str]:
    """Return what is known of the manager endpoint and its broker."""
    up = duration(time.time() - answer["started"])
    version = f" {answer['version']}" if "version" in answer else ""
    spawner = "spawner connected" if answer["spawner_connected"] else "SPAWNER NOT CONNECTED"
    parts = [f"broker{version} up {up}", spawner, *_links(answer)]
    return [f"manager endpoint {answer['endpoint']} ({answer['name']})", ", ".join(parts)]


def admission(answer: Answer) -> list[str]:
    """Return who may start no endpoints, and by whose order."""
    drain, blocked = answer["drain"], answer["blocked"]
    lines = [] if drain is None else [f"DRAINING, nothing is started: {_order(drain)}"]
    return lines + [f"blocked: {user}, {_order(order)}" for user, order in blocked.items()]


def summary(answer: Answer) -> str:
    """Return the sums over all endpoints."""
    rows = answer["endpoints"]
    states = Counter(row["state"] for row in rows)
    users = len({row["user"] for row in rows})
    sums = total(of_row(row) for row in rows)
    waiting = answer.get("starts", {}).get("waiting", 0)
    odd = ", ".join(f"{count} {state}" for state, count in sorted(states.items()) if state != "running")
    parts = [
        f"{len(rows)} endpoints of {users} users" + (f" ({odd})" if odd else ""),
        f"{number(sums.running)} tasks run, {number(sums.queued)} wait, {number(sums.done)} done",
    ]
    return "; ".join(parts + ([f"{waiting:.0f} starts wait"] if waiting else []))


def conditions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is in the way of endpoints' tasks, and which results RabbitMQ has refused."""
    found = [f"{_name(row)}: {row['condition']}" for row in rows if row["condition"]]
    return found + [line for row in rows if (line := _refused(row))]


def _stale(picture: Picture, now: float) -> list[str]:
    if not picture.trouble:
        return []
    age = duration(now - picture.taken)
    return [f"the broker doesn't answer: {picture.trouble}; trying again", f"STALE: what is shown is {age} old"]


def _links(answer: Answer) -> list[str]:
    links = [f"{name} {'up' if up else 'DOWN'}" for name, up in answer.get("amqp", {}).items()]
    return [f"AMQP {', '.join(links)}"] if links else []


def _order(order: Mapping[str, Any]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(order["since"]))
    return f"since {since} by {order['by']}: {order['reason']}"


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['user']} {row['id']}"


def _refused(row: Mapping[str, Any]) -> str:
    figures = row["figures"] or {}
    refused, dropped = (int(figures.get(name, 0)) for name in ("refused_results", "dropped_results"))
    if not refused:
        return ""
    outcome = f"{dropped} of those tasks got no answer" if dropped else "the user was told"
    return f"{_name(row)}: RabbitMQ refused {refused} results for good; {outcome}"
