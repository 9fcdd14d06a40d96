from gateway_project import role_matrix
from gateway_project.role_matrix import CHANGES, NOTHING, SEES
from gateway_project.roles import ROLES


def test_the_matrix_says_what_the_rules_say():
    told = {str(row.title): dict(zip(ROLES, row.levels, strict=True)) for row in role_matrix.rows()}
    assert told["Budgets and their raises"] == {
        "viewer": SEES,
        "operator": SEES,
        "keys": SEES,
        "finance": CHANGES,
        "admin": CHANGES,
    }
    assert told["What customers and models wrote"]["viewer"] == NOTHING
    assert told["Users and their roles"] == dict.fromkeys(ROLES, NOTHING) | {"admin": CHANGES}
    assert told["Asking in the playground"]["viewer"] == NOTHING
