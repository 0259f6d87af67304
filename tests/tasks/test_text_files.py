"""Text files cut into documents, WikiText pages among them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trialplate.tasks.text_files import CUTS, decode_documents, read_text_documents, split_documents
from trialplate.tasks.wikitext import count_words, detokenise, split_pages

RAW = (
    " \n = Otters of the Weir = \n \n Otters swim @-@ dive at dusk , in 2 @,@ 000 pools . \n \n"
    " = = Food = = \n \n They eat fish . \n \n = Reed Boats = \n \n A boat ( of reeds ) floats . \n"
)


def test_blank_lines_part_documents():
    assert split_documents("one\ntwo\n\n \t\n\nthree\r\n\r\nfour\n") == ("one\ntwo", "three", "four")


def test_lines_and_whole():
    assert split_documents(" a \n\nb\n", "line") == ("a", "b")
    assert split_documents(" a \n\nb\n", "whole") == (" a \n\nb\n",)
    assert split_documents(" \n", "whole") == ()


def test_a_wikitext_page_runs_from_title_to_title():
    pages = split_documents(RAW, "wikitext_page")
    assert [page.split("\n")[0] for page in pages] == [" = Otters of the Weir = ", " = Reed Boats = "]
    assert " = = Food = = " in pages[0]


def test_pages_lose_no_text():
    assert "\n".join(split_pages(RAW)) == RAW.removeprefix(" \n")


def test_detokenised_pages_read_like_prose():
    first, second = split_pages(RAW)
    assert "Otters swim-dive at dusk, in 2,000 pools.\n" in detokenise(first)
    assert "\n== Food ==\n" in detokenise(first)
    assert "A boat (of reeds) floats.\n" in detokenise(second)


@pytest.mark.parametrize(
    ("raw", "prose"),
    [
        ('He said " yes " .', 'He said "yes" .'),
        ("the boats ' sails", "the boats' sails"),
        ("the otter 's tail", "the otter's tail"),
        ("[ see map ] and { x }", "[see map] and {x}"),
        ("at 20 ° C", "at 20°C"),
        ("3 @.@ 5 km ; then : stop ! why ? so", "3.5 km; then: stop! why? so"),
    ],
)
def test_detokenising_rule_by_rule(raw, prose):
    assert detokenise(raw) == prose


def test_words_are_counted_with_the_empty_ends():
    assert count_words(" one two\n") == 4
    assert count_words("one two") == 2


def test_a_file_without_text_is_refused(tmp_path):
    path = tmp_path / "prose.txt"
    path.write_text("one\n\ntwo\n")
    assert read_text_documents(path) == ("one", "two")
    for content, text in ((b"\n \n", "no document in it"), (b"\xff", "not UTF-8 at byte 0")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"prose\.txt: {text}"):
            read_text_documents(path)
    with pytest.raises(FileNotFoundError):
        read_text_documents(tmp_path / "absent.txt")


@given(st.text(alphabet="ab =\n\r\t", max_size=60), st.sampled_from(CUTS))
def test_no_document_is_blank_and_no_letter_is_lost(text, cut):
    documents = split_documents(text, cut)
    assert all(document.strip() for document in documents)
    letters = "".join(character for character in text if character in "ab=")
    assert "".join(character for document in documents for character in document if character in "ab=") == letters


def test_bytes_are_decoded_once():
    assert decode_documents("å\n\nb".encode(), "x") == ("å", "b")
