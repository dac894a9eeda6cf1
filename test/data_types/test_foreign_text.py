from vla_ros.data_types.foreign_text import first_line, listed, plain


def test_short_text_stays_as_it_is() -> None:
    assert plain("base_link") == "base_link"
    assert plain("Größe ≤ 3") == "Größe ≤ 3"


def test_long_text_is_cut_and_counted() -> None:
    assert plain("x" * 1_000_000) == "x" * 80 + "… (1000000 characters)"


def test_what_cannot_be_printed_is_escaped() -> None:
    assert plain("a\nb\x1b[31m\0\ud800") == r"a\nb\x1b[31m\x00\ud800"
    assert plain("a\u2028b").isprintable()


def test_many_names_are_counted() -> None:
    assert listed([]) == "none"
    assert listed(["a", "b"]) == "a, b"
    assert listed(f"j{k}" for k in range(200_000)) == "j0, j1, j2, j3, j4, j5, j6, j7, j8, j9 and 199990 more"


def test_an_exception_becomes_its_type_and_first_line() -> None:
    assert first_line(MemoryError()) == "MemoryError"
    assert first_line(ValueError("one\ntwo")) == "ValueError: one"
