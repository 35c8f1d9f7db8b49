"""Subscribes, mutates and sees the update, through PyPI's unmodified `convex` client.

In: the host's address as the first argument; it serves tests/live. Out: exit code 0 and one line,
or a traceback. Invariant: every wait ends by an update, or the caller's time limit ends us.
"""

import sys

from convex import ConvexClient, ConvexError


def main(url: str) -> None:
    client = ConvexClient(url)
    notes = {"list": "python"}
    updates = client.subscribe("notes:bodies", notes)
    assert next(updates) == []
    for n, body in enumerate(["a", "b", "c"], start=1):
        assert client.mutation("notes:add", {**notes, "body": body}) == n
    seen = next(updates)
    while seen != ["a", "b", "c"]:
        assert seen in (["a"], ["a", "b"]), seen
        seen = next(updates)
    assert client.query("notes:count", notes) == 3

    other = ConvexClient(url)
    assert other.query("notes:bodies", notes) == ["a", "b", "c"]
    other.mutation("notes:drop", {**notes, "body": "b"})
    assert next(updates) == ["a", "c"]
    updates.unsubscribe()

    try:
        client.mutation("notes:fail", notes)
        raise AssertionError("a mutation that throws must raise")
    except ConvexError as error:
        assert error.data == {"code": "Refused", "list": "python"}, error.data
    try:
        client.action("people:act")
        raise AssertionError("actions are not there yet")
    except Exception as error:
        assert "actions are not supported" in str(error), error

    client.set_admin_auth("not the key")
    client.clear_auth()
    assert client.query("people:subject") is None
    print("PyPI convex: subscribed, mutated, saw the update")


main(sys.argv[1])
