from inference.vector_stores.naming import Act, Collection, plan


def acts(*collections, **more):
    return {
        (step.collection.name, step.collection.dimension): (step.act, step.target) for step in plan(collections, **more)
    }


def held(name, dimension=768, count=3):
    return Collection(name, f"key-{name}", dimension, count)


def test_a_collection_gets_the_dimension_of_its_vectors_into_its_name():
    assert acts(held("episodes"), held("notes", 1536)) == {
        ("episodes", 768): (Act.RENAME, "episodes_768"),
        ("notes", 1536): (Act.RENAME, "notes_1536"),
    }


def test_one_that_says_it_already_is_kept_and_one_that_lies_is_named_again():
    (kept, lying) = plan([held("episodes_768"), held("notes_768", 1536)])
    assert kept.act is Act.KEEP
    assert (lying.act, lying.target) == (Act.RENAME, "notes_768_1536")
    assert "the name says 768, the vectors have 1536" in lying.note


def test_a_number_that_is_no_dimension_is_part_of_the_name():
    (step,) = plan([held("year_2024")])
    assert (step.target, step.note) == ("year_2024_768", "")


def test_an_empty_one_is_left_until_its_dimension_shows():
    assert acts(held("empty", None, 0)) == {("empty", None): (Act.SKIP, "")}


def test_a_name_that_is_taken_is_a_conflict():
    assert acts(held("a"), held("a_768")) == {("a", 768): (Act.CONFLICT, "a_768"), ("a_768", 768): (Act.KEEP, "")}


def test_a_broken_off_copy_is_written_on():
    assert acts(held("a"), held("a_768"), copies=True, resumed=["a_768"]) == {("a", 768): (Act.COPY, "a_768")}


def test_vectors_of_several_dimensions_part():
    assert acts(held("a"), held("a", 1536)) == {("a", 768): (Act.SPLIT, "a_768"), ("a", 1536): (Act.SPLIT, "a_1536")}
