import socket

import psycopg
import pytest
import redis

from tests import services


def test_the_redis_of_this_session_is_real_and_empty(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        assert client.xadd("stream", {"a": "b"})
        assert client.info("server")["redis_version"]


def test_a_private_redis_leaves_no_process(tmp_path_factory):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(dir="/tmp", prefix="gwtest-") as folder:
        service = services.private_redis(Path(folder))
        with redis.Redis.from_url(service.url) as client:
            pid = client.info("server")["process_id"]
        service.stop()
        assert not Path(f"/proc/{pid}").exists()


def test_a_postgresql_database_of_our_own(postgresql_url):
    with psycopg.connect(postgresql_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_a_mariadb_database_of_our_own(mariadb_url):
    assert mariadb_url.startswith("mysql://")


def test_a_free_port_is_left_to_who_asked_for_it():
    port = services.free_port()
    with socket.socket() as another, pytest.raises(OSError):
        another.bind(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)):
        pass
