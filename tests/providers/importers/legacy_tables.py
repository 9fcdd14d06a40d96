"""The tables of the legacy backoffice, generation by generation, as each database engine holds them.

Statements, not an ORM's models: what the importer meets was made by scripts and by `create_all()` of programs that are not ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TYPES = {
    "mysql": {
        "FLAG": "TINYINT(1)",
        "TIME": "DATETIME",
        "STAMP": "TIMESTAMP NULL",
        "NOW": "CURRENT_TIMESTAMP",
        "JSON": "JSON",
        "SERIAL": "INTEGER NOT NULL AUTO_INCREMENT",
        "YES": "1",
        "NO": "0",
        "TAIL": " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    },
    "postgresql": {
        "FLAG": "BOOLEAN",
        "TIME": "TIMESTAMP WITHOUT TIME ZONE",
        "STAMP": "TIMESTAMP WITHOUT TIME ZONE",
        "NOW": "now()",
        "JSON": "JSON",
        "SERIAL": "SERIAL NOT NULL",
        "YES": "true",
        "NO": "false",
        "TAIL": "",
    },
    "sqlite": {
        "FLAG": "BOOLEAN",
        "TIME": "DATETIME",
        "STAMP": "TIMESTAMP",
        "NOW": "CURRENT_TIMESTAMP",
        "JSON": "JSON",
        "SERIAL": "INTEGER NOT NULL",
        "YES": "1",
        "NO": "0",
        "TAIL": "",
    },
}


@dataclass(frozen=True, slots=True)
class Family:
    """What one generation calls the tables, and the columns it has of each."""

    providers: str
    models: str
    keys: str
    parameters: str
    columns: Mapping[str, frozenset[str]]
    """By the name that a table has here."""

    def has(self, table: str, column: str) -> bool:
        return column in self.columns[table]


def _family(names: tuple[str, str, str, str], columns: Mapping[str, str]) -> Family:
    return Family(
        *names, columns={name: frozenset(columns[role].split()) for role, name in zip(ROLES, names, strict=True)}
    )


ROLES = ("providers", "models", "keys", "parameters")
OLDER = _family(
    ("providers", "provider_models", "api_keys", "connection_parameters"),
    {
        "providers": "provider_id provider_type display_name description enabled created_at updated_at",
        "models": "model_id provider_id display_name model_type context_window max_tokens enabled created_at updated_at",
        "keys": "key_id provider_id key_value is_encrypted environment expires_at created_at updated_at"
        " created_by_user_id",
        "parameters": "param_id provider_id param_name param_value is_sensitive environment created_at updated_at",
    },
)
_NEWER = {
    "providers": "provider_id provider_type display_name description enabled connection_params request_settings"
    " created_at updated_at",
    "models": "model_id provider_id display_name model_type context_window max_tokens enabled capabilities parameters"
    " created_at updated_at",
    "keys": "key_id provider_id key_value is_encrypted environment expires_at created_at created_by_user_id",
    "parameters": "param_id provider_id param_name param_value is_sensitive environment created_at updated_at",
}
_NAMES = ("llm_providers", "llm_models", "llm_provider_api_keys", "llm_provider_connection_parameters")
NEWER = _family(_NAMES, _NEWER | {"models": _NEWER["models"] + " max_output_tokens"})
GATEWAY = _family(_NAMES, _NEWER | {"providers": _NEWER["providers"] + " created_by_user_id"})

OLDER_TABLES = [
    """CREATE TABLE providers (
        provider_id VARCHAR(50) NOT NULL PRIMARY KEY,
        provider_type VARCHAR(50) NOT NULL,
        display_name VARCHAR(100) NOT NULL,
        description TEXT,
        enabled {FLAG} DEFAULT {YES},
        created_at {STAMP} DEFAULT {NOW},
        updated_at {STAMP} DEFAULT {NOW}
    ){TAIL}""",
    """CREATE TABLE provider_models (
        model_id VARCHAR(50) NOT NULL PRIMARY KEY,
        provider_id VARCHAR(50) NOT NULL,
        display_name VARCHAR(100) NOT NULL,
        model_type VARCHAR(50) DEFAULT 'chat',
        context_window INTEGER,
        max_tokens INTEGER,
        enabled {FLAG} DEFAULT {YES},
        created_at {STAMP} DEFAULT {NOW},
        updated_at {STAMP} DEFAULT {NOW},
        FOREIGN KEY (provider_id) REFERENCES providers (provider_id) ON DELETE CASCADE
    ){TAIL}""",
    """CREATE TABLE api_keys (
        key_id {SERIAL} PRIMARY KEY,
        provider_id VARCHAR(50) NOT NULL,
        key_value TEXT NOT NULL,
        is_encrypted {FLAG} DEFAULT {YES},
        environment VARCHAR(20) DEFAULT 'development',
        expires_at {STAMP},
        created_at {STAMP} DEFAULT {NOW},
        updated_at {STAMP} DEFAULT {NOW},
        created_by_user_id INTEGER,
        FOREIGN KEY (provider_id) REFERENCES providers (provider_id) ON DELETE CASCADE,
        FOREIGN KEY (created_by_user_id) REFERENCES users (id)
    ){TAIL}""",
    """CREATE TABLE connection_parameters (
        param_id {SERIAL} PRIMARY KEY,
        provider_id VARCHAR(50) NOT NULL,
        param_name VARCHAR(100) NOT NULL,
        param_value TEXT,
        is_sensitive {FLAG} DEFAULT {NO},
        environment VARCHAR(20) DEFAULT 'development',
        created_at {STAMP} DEFAULT {NOW},
        updated_at {STAMP} DEFAULT {NOW},
        UNIQUE (provider_id, param_name, environment),
        FOREIGN KEY (provider_id) REFERENCES providers (provider_id) ON DELETE CASCADE
    ){TAIL}""",
]


def _newer_tables(*, is_gateway: bool) -> list[str]:
    json = "TEXT" if is_gateway else "{JSON}"
    clock = " DEFAULT {NOW}" if is_gateway else ""
    author = "created_by_user_id INTEGER," if is_gateway else ""
    output_tokens = "" if is_gateway else "max_output_tokens INTEGER,"
    to_users = "" if is_gateway else ", FOREIGN KEY (created_by_user_id) REFERENCES users (id)"
    one_of_a_name = ", UNIQUE (provider_id, param_name, environment)" if is_gateway else ""
    return [
        f"""CREATE TABLE llm_providers (
            provider_id VARCHAR(255) NOT NULL PRIMARY KEY,
            provider_type VARCHAR(255) NOT NULL,
            display_name VARCHAR(255) NOT NULL,
            description TEXT,
            enabled {{FLAG}},
            connection_params TEXT,
            request_settings TEXT,
            {author}
            created_at {{TIME}} DEFAULT {{NOW}},
            updated_at {{TIME}} DEFAULT {{NOW}}
        ){{TAIL}}""",
        f"""CREATE TABLE llm_models (
            model_id VARCHAR(255) NOT NULL,
            provider_id VARCHAR(255) NOT NULL,
            display_name VARCHAR(255) NOT NULL,
            model_type VARCHAR(50),
            context_window INTEGER,
            max_tokens INTEGER,
            {output_tokens}
            enabled {{FLAG}},
            capabilities {json},
            parameters {json},
            created_at {{TIME}}{clock},
            updated_at {{TIME}}{clock},
            PRIMARY KEY (model_id, provider_id),
            FOREIGN KEY (provider_id) REFERENCES llm_providers (provider_id)
        ){{TAIL}}""",
        f"""CREATE TABLE llm_provider_api_keys (
            key_id {{SERIAL}} PRIMARY KEY,
            provider_id VARCHAR(255) NOT NULL,
            key_value TEXT NOT NULL,
            is_encrypted {{FLAG}},
            environment VARCHAR(50),
            expires_at {{TIME}},
            created_at {{TIME}} DEFAULT {{NOW}},
            created_by_user_id INTEGER,
            FOREIGN KEY (provider_id) REFERENCES llm_providers (provider_id)
            {to_users}
        ){{TAIL}}""",
        f"""CREATE TABLE llm_provider_connection_parameters (
            param_id {{SERIAL}} PRIMARY KEY,
            provider_id VARCHAR(255) NOT NULL,
            param_name VARCHAR(255) NOT NULL,
            param_value TEXT NOT NULL,
            is_sensitive {{FLAG}},
            environment VARCHAR(50),
            created_at {{TIME}} DEFAULT {{NOW}},
            updated_at {{TIME}} DEFAULT {{NOW}},
            FOREIGN KEY (provider_id) REFERENCES llm_providers (provider_id)
            {one_of_a_name}
        ){{TAIL}}""",
    ]


USERS = [
    "CREATE TABLE roles (id {SERIAL} PRIMARY KEY, name VARCHAR(50) NOT NULL UNIQUE, description VARCHAR(255)){TAIL}",
    """CREATE TABLE users (
        id {SERIAL} PRIMARY KEY,
        username VARCHAR(50) NOT NULL UNIQUE,
        email VARCHAR(120) NOT NULL UNIQUE,
        password_hash VARCHAR(128) NOT NULL,
        role_id INTEGER,
        FOREIGN KEY (role_id) REFERENCES roles (id)
    ){TAIL}""",
]

SIDE = [
    """CREATE TABLE users_providers (
        user_id INTEGER NOT NULL,
        provider_id VARCHAR(50) NOT NULL,
        role VARCHAR(20) DEFAULT 'user',
        created_at {STAMP} DEFAULT {NOW},
        PRIMARY KEY (user_id, provider_id),
        FOREIGN KEY (user_id) REFERENCES users (id)
        {TO_PROVIDERS}
    ){TAIL}""",
    """CREATE TABLE configurations (
        id {SERIAL} PRIMARY KEY,
        config_key VARCHAR(100) NOT NULL,
        config_value TEXT,
        config_type VARCHAR(20) DEFAULT 'string',
        environment VARCHAR(20) DEFAULT 'development',
        description TEXT,
        UNIQUE (config_key, environment)
    ){TAIL}""",
    """CREATE TABLE user_settings (
        id {SERIAL} PRIMARY KEY,
        user_id INTEGER NOT NULL,
        setting_key VARCHAR(100) NOT NULL,
        setting_value TEXT,
        FOREIGN KEY (user_id) REFERENCES users (id)
    ){TAIL}""",
    """CREATE TABLE audit_logs (
        id {SERIAL} PRIMARY KEY,
        table_name VARCHAR(50) NOT NULL,
        record_id VARCHAR(255) NOT NULL,
        action VARCHAR(20) NOT NULL,
        changed_by_user_id INTEGER,
        changed_at {STAMP} DEFAULT {NOW},
        old_values {JSON},
        new_values {JSON},
        ip_address VARCHAR(45),
        user_agent VARCHAR(255)
    ){TAIL}""",
    """CREATE TABLE api_key_usage (
        id {SERIAL} PRIMARY KEY,
        key_id INTEGER NOT NULL,
        user_id INTEGER NOT NULL,
        usage_date DATE NOT NULL,
        request_count INTEGER DEFAULT 0,
        tokens_used INTEGER DEFAULT 0,
        UNIQUE (key_id, user_id, usage_date)
        {TO_KEYS}
    ){TAIL}""",
]

GATEWAY_AUDIT = """CREATE TABLE llm_provider_audit_logs (
    log_id {SERIAL} PRIMARY KEY,
    table_name VARCHAR(255) NOT NULL,
    record_id VARCHAR(255) NOT NULL,
    action VARCHAR(50) NOT NULL,
    changed_by_user_id INTEGER,
    old_values TEXT,
    new_values TEXT,
    timestamp {TIME} DEFAULT {NOW}
){TAIL}"""


def statements(engine: str, generation: str) -> list[str]:
    """CREATE TABLE statements of `bo` (A), `bollm` (B), `gateway` (C) or `both` (A and B), in an order that works."""
    if generation == "gateway":
        made, owners = [*_newer_tables(is_gateway=True), GATEWAY_AUDIT], ("llm_providers", "llm_provider_api_keys")
    elif generation == "bollm":
        made, owners = [*USERS, *_newer_tables(is_gateway=False), *SIDE], ("llm_providers", "llm_provider_api_keys")
    elif generation == "bo":
        made, owners = [*USERS, *OLDER_TABLES, *SIDE], ("providers", "api_keys")
    else:
        # The raw script of A came first, so the tables that both use point at A's.
        made = [*USERS, *OLDER_TABLES, *SIDE, *_newer_tables(is_gateway=False)]
        owners = ("providers", "api_keys")
    words = TYPES[engine] | {
        "TO_PROVIDERS": f", FOREIGN KEY (provider_id) REFERENCES {owners[0]} (provider_id)",
        "TO_KEYS": f", FOREIGN KEY (key_id) REFERENCES {owners[1]} (key_id)",
    }
    return [statement.format(**words) for statement in made]
