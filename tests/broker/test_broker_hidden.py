"""Options and configurations that an administrator looks at: what looks like a secret isn't shown."""

from itertools import pairwise

import pytest
import yaml
from twinlock_broker.hidden import hide, hide_in_yaml, scrub

CONFIG = """\
engine:
  type: GlobusComputeEngine
  provider: {type: SlurmProvider, account: physics, api_key: hush, aws_secret: {a: hush, b: [hush]}}
  worker_init: |
    module load python
    export SITE_TOKEN=hush PATH=/opt/bin
    fetch --password "hush hush" https://ada:hush@site.example/data
  address: [amqps://ada:hush@site.example/, {password: hush}]
"password": &anchor hush
again: *anchor
"""


def test_a_configuration_is_shown_without_its_secrets() -> None:
    shown = hide_in_yaml(CONFIG.replace("again: *anchor\n", ""))
    assert "hush" not in shown
    found = yaml.safe_load(shown)
    assert found["engine"]["provider"] == {
        "type": "SlurmProvider",
        "account": "physics",
        "api_key": "<secret>",
        "aws_secret": "<secret>",
    }
    assert "module load python\nexport SITE_TOKEN=<secret> PATH=/opt/bin\n" in found["engine"]["worker_init"]
    assert "hush" not in hide_in_yaml(CONFIG), "an alias doesn't say what it is for"


def test_a_structure_of_aliases_stays_one() -> None:
    """Written out, it would have a billion parts."""
    names = "abcdefghij"
    lines = [f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairwise(names)]
    text = "\n".join(["a: &a [x]", *lines, "secret: *j", "list: [*j, {token: *j}]"])
    assert len(hide_in_yaml(text)) < 2 * len(text)


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\x07", "a: *"])
def test_what_is_no_yaml(text: str) -> None:
    with pytest.raises(ValueError, match="it isn't valid YAML"):
        hide_in_yaml(text)


def test_options_without_their_secrets() -> None:
    options = {
        "account_id": "a",
        "db_password": {"x": 1},
        "more": [{"TOKEN": 5, "url": "https://u:hush@x/"}],
        "n": None,
    }
    assert hide(options) == {
        "account_id": "a",
        "db_password": "<secret>",
        "more": [{"TOKEN": "<secret>", "url": "https://<secret>@x/"}],
        "n": None,
    }


def test_options_of_any_depth() -> None:
    deep: object = "hush"
    for _ in range(500):
        deep = [deep]
    assert "hush" not in repr(hide(deep))


@pytest.mark.parametrize("word", ["a", "token", "token ", 'token="', "://"])
def test_a_text_that_is_one_long_word_takes_no_time(word: str) -> None:
    """One of half a megabyte would take days if each letter had the rest looked through."""
    assert len(scrub(word * 100_000)) >= 100_000
