"""Subscribes, mutates and sees the update, through PyPI's unmodified `convex` client.

In: the host's address as the first argument; it serves tests/live. Out: exit code 0 and one line,
or a traceback. Invariant: every wait ends by an update, or the caller's time limit ends us.
"""

import sys

from convex import ConvexClient, ConvexError, ConvexInt64
from convex.http_client import ConvexHttpClient


def wait_for(updates, wanted, on_the_way) -> None:
    """This client tells a value again whenever anything that it follows may have changed."""
    for seen in updates:
        if seen == wanted:
            return
        assert seen in on_the_way, seen


def over_http(url: str) -> None:
    """Its HTTP client takes no number without a point for a float64."""
    client = ConvexHttpClient(url)
    notes = {"list": "python over HTTP"}
    added = [client.mutation("notes:add", {**notes, "body": body}) for body in ["1, 2", "b"]]
    assert added == [1, 2] and all(isinstance(count, float) for count in added), added
    assert client.query("notes:count", notes) == 2
    assert client.query("notes:bodies", notes) == ["1, 2", "b"]
    values = [0, -1, 1.5, 2**53, 1e300, -0.0, ConvexInt64(3), "4", b"5", {"six": [6, None]}]
    echoed = client.action("people:echo", {"values": values})
    assert repr(echoed) == repr([*map(float, values[:6]), *values[6:9], {"six": [6.0, None]}])
    try:
        client.action("people:refuse", {"data": {"tries": 3}})
        raise AssertionError("an action that throws must raise")
    except ConvexError as error:
        assert error.data == {"tries": 3}, error.data


def main(url: str) -> None:
    client = ConvexClient(url)
    notes = {"list": "python"}
    updates = client.subscribe("notes:bodies", notes)
    assert next(updates) == []
    for n, body in enumerate(["a", "b", "c"], start=1):
        assert client.mutation("notes:add", {**notes, "body": body}) == n
    wait_for(updates, ["a", "b", "c"], on_the_way=([], ["a"], ["a", "b"]))
    assert client.query("notes:count", notes) == 3

    other = ConvexClient(url)
    assert other.query("notes:bodies", notes) == ["a", "b", "c"]
    other.mutation("notes:drop", {**notes, "body": "b"})
    wait_for(updates, ["a", "c"], on_the_way=(["a", "b", "c"],))
    updates.unsubscribe()

    try:
        client.mutation("notes:fail", notes)
        raise AssertionError("a mutation that throws must raise")
    except ConvexError as error:
        assert error.data == {"code": "Refused", "list": "python"}, error.data
    assert client.action("people:act") == "done"

    client.set_admin_auth("not the key")
    client.clear_auth()
    assert client.query("people:subject") is None
    over_http(url)
    print("PyPI convex: subscribed, mutated, saw the update")


main(sys.argv[1])
