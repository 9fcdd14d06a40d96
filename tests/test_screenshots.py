"""The script that takes pictures of the admin knows pages that there are."""

import importlib.util
import sys
from pathlib import Path

import pytest
from django.urls import reverse

SCRIPT = Path(__file__).parent.parent / "docs" / "screenshots" / "take.py"


@pytest.fixture(scope="module")
def take():
    spec = importlib.util.spec_from_file_location("take_screenshots", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_each_picture_is_of_a_page_of_the_admin(take):
    for shot in take.SHOTS:
        assert reverse(f"admin:{shot.url}", args=["1"] if shot.row else []).startswith("/admin/")


def test_each_picture_has_a_name_of_its_own(take):
    names = [shot.name for shot in take.SHOTS]
    assert len(names) == len(set(names))


def test_the_pictures_that_are_kept_are_small(take):
    assert sum(picture.stat().st_size for picture in take.HERE.glob("*.png")) < take.MOST_BYTES
