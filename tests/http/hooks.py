"""What Schemathesis has to be told of Foreshore: how paths and tags look, which bookmark there is, and that streams are to end."""

import os

import schemathesis
from hypothesis import strategies as st

# Names that every kind of state takes; what none takes is tried by the door's own tests.
SEGMENT = st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-_ éß", min_size=1, max_size=12)
TAIL = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join)
PATH = TAIL.map(lambda text: "/" + text)
TAG = st.text(alphabet="0123456789abcdef.", min_size=1, max_size=64).map(lambda text: f'"{text}"')

schemathesis.openapi.format("foreshore-path-tail", TAIL)
schemathesis.openapi.format("foreshore-path", PATH)
schemathesis.openapi.format("foreshore-prefix", st.one_of(st.just("/"), PATH))
schemathesis.openapi.format("foreshore-bookmark", st.just(os.environ["FORESHORE_BOOKMARK"]))
schemathesis.openapi.format(
    "foreshore-entity-tags", st.one_of(st.just("*"), st.lists(TAG, min_size=1, max_size=4).map(", ".join))
)
schemathesis.openapi.format(
    "foreshore-version-tag", st.one_of(st.just("*"), st.integers(0, 2**31 - 1).map(lambda version: f'"{version}"'))
)

STREAMS = ("/v1/live", "/v1/locks/{path}", "/v1/elections/{path}", "/v1/ephemeral/{path}")


@schemathesis.hook
def before_call(context, case, kwargs):
    query, path = dict(case.query or {}), case.operation.path
    if path in STREAMS and (path == "/v1/live" or case.method.upper() == "POST"):
        # A stream has no end of its own; one that the case gives a malformed end keeps that.
        given = str(query.get("for_ms", "0"))
        if given.isdecimal() and int(given) <= 86_400_000:
            query["for_ms"] = 50
    case.query = query
