import pytest

from imitrace_collector.config import CollectorConfig
from imitrace_collector.tokens import ANYONE, ForbiddenError, Role, Tokens, UnauthenticatedError

OPENS = {
    "token": {Role.OPEN, Role.INGEST, Role.READ, Role.ADMIN},
    "ingest_token": {Role.OPEN, Role.INGEST},
    "read_token": {Role.OPEN, Role.READ},
    "admin_token": {Role.OPEN, Role.INGEST, Role.READ, Role.ADMIN},
}
TOKENS = Tokens(CollectorConfig(**{name: name for name in OPENS}))  # type: ignore[arg-type]  # texts only


@pytest.mark.parametrize("role", [Role.INGEST, Role.READ, Role.ADMIN])
@pytest.mark.parametrize("name", OPENS)
def test_a_token_opens_what_it_is_for(name: str, role: Role) -> None:
    if role in OPENS[name]:
        assert TOKENS.caller(f"Bearer {name}", role) == name
        return
    with pytest.raises(ForbiddenError, match=f"the {role.value} token may"):
        TOKENS.caller(f"Bearer {name}", role)


@pytest.mark.parametrize("given", [None, "", "Bearer ", "Bearer other", "token", "bearer token ", "Bearer t\u00f6ken"])
def test_anything_else_is_no_token(given: str | None) -> None:
    with pytest.raises(UnauthenticatedError, match="missing or wrong"):
        TOKENS.caller(given, Role.READ)
    assert TOKENS.caller(given, Role.OPEN) == ANYONE


def test_one_secret_may_be_the_token_for_two_things() -> None:
    tokens = Tokens(CollectorConfig(ingest_token="same", read_token="same"))
    assert [tokens.caller("Bearer same", role) for role in (Role.INGEST, Role.READ)] == ["ingest_token", "read_token"]


def test_without_tokens_anyone_may() -> None:
    assert Tokens(CollectorConfig()).caller(None, Role.ADMIN) == ANYONE
