import pytest

from gateway_project import role_names, roles, sign_on
from gateway_project.env import BadSetting, Environment

TOLD = {
    "GATEWAY_SSO_ISSUER": "https://id.example/realms/work/",
    "GATEWAY_SSO_CLIENT_ID": "gateway",
    "GATEWAY_SSO_CLIENT_SECRET": "s3cret",
    "GATEWAY_SSO_ROLES": "platform=operator,CN=Audit=viewer",
    "GATEWAY_SSO_TEAMS": "lab=research, leads=research:manages, shop=sales",
}


def read(**changed):
    return sign_on.read(Environment({**TOLD, **changed}))


def roles_of(claims, **changed):
    return set(sign_on.entitled(read(**changed), claims).roles)


def test_it_is_off_unless_an_issuer_is_named():
    assert sign_on.read(Environment({})) is None


def test_the_issuer_may_be_named_by_its_discovery_document():
    assert read().issuer == "https://id.example/realms/work"
    assert read(GATEWAY_SSO_ISSUER=read().discovery).issuer == read().issuer


def test_the_secret_may_lie_in_a_file(tmp_path):
    (tmp_path / "secret").write_text("from a file\n")
    told = {name: value for name, value in TOLD.items() if not name.endswith("SECRET")}
    on = sign_on.read(Environment({**told, "GATEWAY_SSO_CLIENT_SECRET_FILE": str(tmp_path / "secret")}))
    assert on.client_secret == "from a file"


def test_groups_become_roles_and_others_nothing():
    assert roles_of({"groups": ["platform", "canteen"]}) == {"operator"}
    assert roles_of({"groups": "CN=Audit"}) == {"viewer"}
    assert roles_of({"groups": [None, 7, {"a": 1}]}) == roles_of({}) == set()


def test_who_has_no_role_gets_the_default_if_there_is_one():
    assert roles_of({}, GATEWAY_SSO_DEFAULT_ROLE="viewer") == {"viewer"}
    assert roles_of({"groups": ["platform"]}, GATEWAY_SSO_DEFAULT_ROLE="viewer") == {"operator"}


def test_a_claim_may_lie_within_another_or_have_a_dot_in_its_name():
    nested = {"GATEWAY_SSO_GROUPS_CLAIM": "realm_access.roles"}
    assert roles_of({"realm_access": {"roles": ["platform"]}}, **nested) == {"operator"}
    assert roles_of({"realm_access.roles": ["platform"]}, **nested) == {"operator"}
    assert roles_of({"realm_access": "platform"}, **nested) == set()


def test_of_two_groups_for_a_team_the_one_that_manages_counts():
    for groups in (["lab", "leads"], ["leads", "lab"]):
        assert sign_on.entitled(read(), {"groups": groups}).teams == {"research": "manages"}
    assert sign_on.entitled(read(), {"groups": ["lab", "shop"]}).teams == {"research": "views", "sales": "views"}


def test_who_is_entitled_to_nothing_is_so():
    assert not sign_on.entitled(read(), {"groups": ["canteen"]})
    assert sign_on.entitled(read(), {"groups": ["shop"]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_SSO_ISSUER", "http://id.example"),
        ("GATEWAY_SSO_CLIENT_ID", ""),
        ("GATEWAY_SSO_CLIENT_SECRET", ""),
        ("GATEWAY_SSO_ROLES", "platform"),
        ("GATEWAY_SSO_ROLES", "platform=root"),
        ("GATEWAY_SSO_TEAMS", "lab=research:owns"),
        ("GATEWAY_SSO_DEFAULT_ROLE", "root"),
        ("GATEWAY_SSO_SESSION", "soon"),
    ],
)
def test_a_bad_setting_is_refused_by_its_name(name, value):
    with pytest.raises(BadSetting, match=name) as caught:
        read(**{name: value})
    assert "s3cret" not in str(caught.value)


def test_the_secret_is_in_no_text_of_the_settings():
    assert "s3cret" not in repr(read())


def test_the_names_of_the_roles_are_the_roles():
    assert tuple(roles.ROLES) == role_names.ROLE_NAMES
